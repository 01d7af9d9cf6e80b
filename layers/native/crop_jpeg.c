/* A window of a JPEG image, and no more of it than that needs: for layers/images.py.

   Rows above the window are entropy-decoded only, rows below it not at all, and columns beside it
   are neither transformed nor coloured. The pixels are those of a full decode, bit for bit: a
   margin is decoded and dropped, for at the edge of what is decoded libjpeg-turbo interpolates
   colours as at the edge of an image. Needs libjpeg-turbo 1.5 or later. */

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "huffman.h"

/* libjpeg-turbo writes aligned rows past the caches, from where it is slow to copy them. */
#define MISALIGNED 4

enum { DONE = 0, NOT_FOR_US = 1, DAMAGED = 2 };

typedef struct {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  Entropy entropy;
  jmp_buf failed;
  char message[JMSG_LENGTH_MAX]; /* of the first damage */
} Decoder;

static void keep_message(j_common_ptr jpeg) {
  Decoder *decoder = jpeg->client_data;
  if (!decoder->message[0]) jpeg->err->format_message(jpeg, decoder->message);
}

static void on_error(j_common_ptr jpeg) {
  Decoder *decoder = jpeg->client_data;
  keep_message(jpeg);
  longjmp(decoder->failed, 1);
}

static void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  jpeg->err->num_warnings++; /* the pixels cannot be trusted */
  keep_message(jpeg);
}

static int create(Decoder *decoder) {
  if (setjmp(decoder->failed)) return 0; /* no memory, or a library of another version */
  jpeg_create_decompress(&decoder->jpeg);
  return 1;
}

Decoder *decoder_new(void) {
  Decoder *decoder = calloc(1, sizeof(Decoder));
  if (!decoder) return NULL;
  decoder->jpeg.err = jpeg_std_error(&decoder->errors);
  decoder->errors.error_exit = on_error;
  decoder->errors.emit_message = on_message;
  decoder->jpeg.client_data = decoder; /* creation keeps it */
  if (create(decoder)) return decoder;
  free(decoder);
  return NULL;
}

/* Read the header of `size` bytes of `data`, which must stay where they are until the next call.
   DONE, with the size of the image, or NOT_FOR_US: progressive, CMYK, damaged, none, ... */
int decoder_begin(Decoder *decoder, const unsigned char *data, unsigned long size, int *height,
                  int *width) {
  struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  jpeg_abort_decompress(jpeg);
  jpeg->err->num_warnings = 0;
  decoder->message[0] = 0;
  if (setjmp(decoder->failed)) return NOT_FOR_US; /* the general decoder names the reason */
  jpeg_mem_src(jpeg, (unsigned char *)data, size);
  jpeg_read_header(jpeg, TRUE);
  *height = jpeg->image_height;
  *width = jpeg->image_width;
  int known = jpeg->jpeg_color_space == JCS_GRAYSCALE || jpeg->jpeg_color_space == JCS_YCbCr ||
              jpeg->jpeg_color_space == JCS_RGB;
  return !known || jpeg->arith_code || jpeg->progressive_mode || jpeg->data_precision != 8 ||
                 jpeg->comps_in_scan != jpeg->num_components || jpeg->err->num_warnings
             ? NOT_FOR_US
             : DONE;
}

/* The window of the image that was begun, as `channels` = 3 (blue, green, red) or 1 (gray), into
   `out`, whose rows are `stride` bytes apart. Call once after decoder_begin. */
int decoder_cut(Decoder *decoder, int top, int left, int height, int width, int channels,
                unsigned char *out, long stride) {
  struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
  if (top < 0 || left < 0 || height < 1 || width < 1 ||
      (unsigned)top + height > jpeg->image_height || (unsigned)left + width > jpeg->image_width)
    return NOT_FOR_US;
  if (setjmp(decoder->failed)) return DAMAGED;
  jpeg->out_color_space = channels == 3 ? JCS_EXT_BGR : JCS_GRAYSCALE;
  jpeg_start_decompress(jpeg);
  use_entropy(jpeg, &decoder->entropy);
  JDIMENSION unit = jpeg->max_h_samp_factor * DCTSIZE, full = jpeg->output_width;
  JDIMENSION first = (unsigned)left > unit ? left - unit : 0;
  JDIMENSION end = left + width + unit < full ? left + width + unit : full, count = end - first;
  if (count < full) jpeg_crop_scanline(jpeg, &first, &count);
  JSAMPARRAY rows = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE,
                                            count * channels + MISALIGNED, 1);
  JSAMPROW row = rows[0] + MISALIGNED;
  if (top) jpeg_skip_scanlines(jpeg, top);
  for (int y = 0; y < height; y++) {
    jpeg_read_scanlines(jpeg, &row, 1);
    memcpy(out + y * stride, row + (size_t)(left - first) * channels, (size_t)width * channels);
  }
  return jpeg->err->num_warnings ? DAMAGED : DONE;
}

const char *decoder_message(const Decoder *decoder) { return decoder->message; }

/* Entropy decoding of baseline JPEGs in about half the time of libjpeg-turbo's: for crop_jpeg.c.

   One look into a table, at the next LOOK bits, shows where a code and its coefficient end, and
   what makes the coefficient of their bits. The pixels are the same; where libjpeg-turbo warns and
   guesses, decoding ends with its message. T.81 is the JPEG standard of the ITU-T. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "not libjpeg-turbo, whose modules this one is made for"
#endif

#if defined(__x86_64__) && defined(__GLIBC__)
#define SHIFTS_WITHOUT_FLAGS __attribute__((target_clones("bmi2", "default")))
#else
#define SHIFTS_WITHOUT_FLAGS
#endif

#define LOOK 10
#define LONGEST_MCU 2560 /* bytes: more than 10 blocks of 64 codes of 31 bits */

struct jpeg_entropy_decoder { /* as libjpeg-turbo's jpegint.h has it */
  void (*start_pass)(j_decompress_ptr jpeg);
  boolean (*decode_mcu)(j_decompress_ptr jpeg, JBLOCKROW *blocks);
  boolean insufficient_data;
};

/* What a look shows, lowest bits first. 8 bits: the length of a code with its coefficient; 8 bits:
   64 less that length; 16 bits: how far the coefficient lies, 64 for the end of a block; 32 bits:
   what, added to the number that code and coefficient are together, gives the coefficient. All are
   0 where the look does not show the whole code and the sign of its coefficient. */
typedef uint64_t Code;

typedef struct {
  Code looks[1 << LOOK];
  uint32_t end[17], places[17]; /* of each length: after its last code; place less code */
  UINT8 lengths[17], symbols[256];
} Table;

typedef struct {
  uint64_t bits;  /* the next one highest */
  uint64_t count; /* the lowest 6 bits: how many of `bits` are there; at least 25 before a code */
  const uint8_t *next;
} Bits;

typedef struct {
  const Table *dc, *ac;
  int *last_dc; /* of its component */
} Block;

typedef struct {
  struct jpeg_entropy_decoder module;
  Table dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
  Block blocks[D_MAX_BLOCKS_IN_MCU];
  const uint8_t *data, *data_end; /* after the current restart interval */
  uint8_t *clean, *clean_end;     /* the interval without stuffed bytes */
  size_t room;
  Bits bits;
  int last_dc[MAX_COMPS_IN_SCAN];
  unsigned intervals, left; /* restart intervals that have begun, MCUs of the current one to come */
} Entropy;

/* Where a block's coefficients belong; those of a run beyond its end fall on the last. */
static const uint8_t order[64 + 64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

static Code make_code(uint32_t code, int length, int symbol, int positive) {
  int run = symbol >> 4, size = symbol & 15, all = length + size; /* T.81, F.1.2.2 */
  int advance = size || run == 15 ? run + 1 : 64;
  int32_t add = -(int32_t)(code << size) - (positive ? 0 : (1 << size) - 1);
  return (uint64_t)add << 32 | advance << 16 | (64 - all) << 8 | all;
}

/* The code that `bits` begin with, which a look does not show; 0 where there is none. */
static Code long_code(const Table *table, uint64_t bits) {
  for (int length = LOOK; length <= 16; length++) {
    uint32_t code = bits >> (64 - length);
    if (code < table->end[length])
      return make_code(code, length, table->symbols[code + table->places[length]],
                       bits >> (63 - length) & 1);
  }
  return 0;
}

/* The table of a Huffman table that libjpeg-turbo has found valid. */
static void make_table(Table *table, const JHUFF_TBL *from) {
  if (!memcmp(table->lengths, from->bits, sizeof table->lengths) &&
      !memcmp(table->symbols, from->huffval, sizeof table->symbols))
    return; /* it is that of the last image */
  memcpy(table->lengths, from->bits, sizeof table->lengths);
  memcpy(table->symbols, from->huffval, sizeof table->symbols);
  memset(table->looks, 0, sizeof table->looks);
  Code *look = table->looks;
  uint32_t code = 0, place = 0;
  for (int length = 1; length <= 16; length++, code *= 2) { /* T.81, annex C */
    table->places[length] = place - code;
    for (int k = 0; k < from->bits[length]; k++, code++, place++)
      for (int positive = 0; positive < 2 && length < LOOK; positive++) {
        Code found = make_code(code, length, from->huffval[place], positive);
        for (int n = 1 << (LOOK - length - 1); n; n--) *look++ = found;
      }
    table->end[length] = code;
  }
}

static inline uint64_t eight_bytes(const uint8_t *at) {
  uint64_t bytes;
  memcpy(&bytes, at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  bytes = __builtin_bswap64(bytes);
#endif
  return bytes;
}

/* Begin an interval: copy it, up to a marker, without the zeros that are stuffed after bytes FF. */
static void open_interval(Entropy *entropy) {
  const uint8_t *data = entropy->data, *end = entropy->data_end;
  uint8_t *out = entropy->clean;
  while (data < end) {
    const uint8_t *found = memchr(data, 0xff, end - data), *plain_end = found ? found : end;
    memcpy(out, data, plain_end - data);
    out += plain_end - data;
    for (data = plain_end; data < end && *data == 0xff;) data++;
    if (data == end || *data) break;
    *out++ = 0xff;
    data++;
  }
  memset(out, 0, LONGEST_MCU + 8); /* damage leads there */
  entropy->data = data;
  entropy->clean_end = out;
  entropy->bits = (Bits){eight_bytes(entropy->clean), 56, entropy->clean + 7};
  memset(entropy->last_dc, 0, sizeof entropy->last_dc);
}

/* How many bits of the interval are left; below 0 where it was too short. */
static long bits_left(const Entropy *entropy) {
  return (entropy->clean_end - entropy->bits.next) * 8 + (long)(entropy->bits.count & 63);
}

/* Begin the next interval, after the restart marker that has to be there. */
static void restart(j_decompress_ptr jpeg, Entropy *entropy) {
  int number = entropy->intervals++ % 8, marker = JPEG_RST0 + number;
  long bytes = bits_left(entropy) / 8;
  if (bytes) ERREXIT2(jpeg, JWRN_EXTRANEOUS_DATA, (int)bytes, marker);
  if (entropy->data == entropy->data_end) ERREXIT(jpeg, JWRN_HIT_MARKER);
  if (*entropy->data != marker) ERREXIT2(jpeg, JWRN_MUST_RESYNC, *entropy->data, number);
  entropy->data++;
  entropy->left = jpeg->restart_interval;
  open_interval(entropy);
}

/* Take a code from `bits`; returns how far its coefficient lies, which goes to `value`. */
static inline size_t take(j_decompress_ptr jpeg, Bits *bits, const Table *table, int *value) {
  Code code = table->looks[bits->bits >> (64 - LOOK)]; /* meanwhile, bits are filled up to 56 */
  bits->bits |= eight_bytes(bits->next) >> (bits->count & 63);
  bits->next += ~bits->count >> 3 & 7;
  bits->count |= 56;
  if (__builtin_expect(!code, 0)) {
    code = long_code(table, bits->bits);
    if (!code) ERREXIT(jpeg, JWRN_HUFF_BAD_CODE);
  }
  *value = (int)(bits->bits >> (code >> 8 & 63)) + (int)(code >> 32);
  bits->bits <<= code & 63;
  bits->count -= code;
  return code >> 16 & 255;
}

/* The coefficients of an MCU into `blocks`, which hold zeros, or nowhere. */
SHIFTS_WITHOUT_FLAGS
static boolean decode_mcu(j_decompress_ptr jpeg, JBLOCKROW *blocks) {
  Entropy *entropy = (Entropy *)jpeg->entropy;
  JBLOCK nowhere;
  if (jpeg->restart_interval && !entropy->left--) {
    restart(jpeg, entropy);
    entropy->left--;
  }
  Bits bits = entropy->bits;
  for (int k = 0; k < jpeg->blocks_in_MCU; k++) {
    Block block = entropy->blocks[k];
    JCOEF *out = blocks ? *blocks[k] : nowhere;
    int value;
    take(jpeg, &bits, block.dc, &value);
    out[0] = *block.last_dc += value;
    for (size_t at = 0; at < 63;) {
      at += take(jpeg, &bits, block.ac, &value);
      out[order[at]] = value;
    }
  }
  entropy->bits = bits;
  if (bits_left(entropy) < 0) ERREXIT(jpeg, JWRN_HIT_MARKER);
  return TRUE;
}

/* Have `entropy` decode the image in memory that jpeg_start_decompress has just begun. */
static void use_entropy(j_decompress_ptr jpeg, Entropy *entropy) {
  size_t size = jpeg->src->bytes_in_buffer, room = size + LONGEST_MCU + 8;
  if (entropy->room < room) {
    uint8_t *clean = realloc(entropy->clean, room);
    if (!clean) ERREXIT1(jpeg, JERR_OUT_OF_MEMORY, 0);
    entropy->clean = clean;
    entropy->room = room;
  }
  for (int k = 0; k < jpeg->blocks_in_MCU; k++) {
    int component = jpeg->MCU_membership[k];
    const jpeg_component_info *info = jpeg->cur_comp_info[component];
    Table *dc = &entropy->dc[info->dc_tbl_no], *ac = &entropy->ac[info->ac_tbl_no];
    make_table(dc, jpeg->dc_huff_tbl_ptrs[info->dc_tbl_no]);
    make_table(ac, jpeg->ac_huff_tbl_ptrs[info->ac_tbl_no]);
    entropy->blocks[k] = (Block){dc, ac, &entropy->last_dc[component]};
  }
  entropy->data = jpeg->src->next_input_byte;
  entropy->data_end = entropy->data + size;
  entropy->intervals = 0;
  entropy->left = jpeg->restart_interval;
  open_interval(entropy);
  entropy->module = (struct jpeg_entropy_decoder){jpeg->entropy->start_pass, decode_mcu, FALSE};
  jpeg->entropy = &entropy->module;
}

// 3 x 3 convolutions with stride 1 and pad 1 of few channels, as small residual nets have them:
// direct, on images and weights as they lie (channels last).
//
// x: (N, H, W, C), y: (N, H, W, K), weights: (K, 3, 3, C); C and K are 16, 32 or 64.

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "threads.h"
#include "vectors.h"

namespace {

constexpr int PLACES = 9;         // of the kernel, row by row
constexpr long NEAR = 32 * 1024;  // bytes of images that the nearest cache holds beside the rest

struct Images {
    long count, height, width;

    long rows() const { return count * height; }
};

// The three rows around a row of pixels, with a pixel of zeros at both ends.
class Window {
public:
    Window(const float* x, Images images, int channels)
        : x_(x), images_(images), channels_(channels), stride_((images.width + 2) * channels),
          rows_(3 * stride_) {}

    // Looks at the rows above, at and below `row`, counted over all images.
    void move_to(long row) {
        long y = row % images_.height;
        for (int kh = 0; kh < 3; ++kh) {
            bool inside = 0 <= y + kh - 1 && y + kh - 1 < images_.height;
            around_[kh] = inside ? padded(row + kh - 1) : nullptr;
        }
    }

    // The pixel left of `column` in the row under the kernel's row kh; null outside the image.
    const float* at(int kh, long column) const {
        return around_[kh] ? around_[kh] + column * channels_ : nullptr;
    }

private:
    const float* padded(long row) {
        float* slot = &rows_[row % 3 * stride_];
        if (held_[row % 3] != row) {
            std::copy_n(x_ + row * images_.width * channels_, images_.width * channels_,
                        slot + channels_);
            held_[row % 3] = row;
        }
        return slot;
    }

    const float* x_;
    Images images_;
    int channels_;
    long stride_;
    std::vector<float> rows_;
    long held_[3] = {-1, -1, -1};
    const float* around_[3] = {};
};

Floats interleaved(Floats a, Floats b, bool upper) {
    Ints lower = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
    return upper ? __builtin_shuffle(a, b, lower + 8) : __builtin_shuffle(a, b, lower);
}

// 16 rows of 16 floats become columns: four times, each half is interleaved with the other.
void transpose(const float* from, long stride, float* to) {
    Floats rows[LANES], mixed[LANES];
    for (int i = 0; i < LANES; ++i) rows[i] = load(from + i * stride);
    for (int time = 0; time < 4; ++time) {
        for (int i = 0; i < LANES; ++i)
            mixed[i] = interleaved(rows[i / 2], rows[i / 2 + LANES / 2], i % 2);
        std::copy_n(mixed, LANES, rows);
    }
    for (int i = 0; i < LANES; ++i) store(to + i * LANES, rows[i]);
}

// Weights by blocks of output channels: (K / 16, 9, C, 16).
std::vector<float> packed(const float* weights, int outputs, int inputs) {
    std::vector<float> blocks(long(outputs) * PLACES * inputs);
    float* to = blocks.data();
    for (int k = 0; k < outputs; k += LANES)
        for (int place = 0; place < PLACES; ++place)
            for (int c = 0; c < inputs; c += LANES, to += LANES * LANES)
                transpose(weights + (long(k) * PLACES + place) * inputs + c, PLACES * inputs, to);
    return blocks;
}

// The same of the convolution that backward is: kernels turned around, from outputs to inputs.
std::vector<float> packed_backward(const float* weights, int outputs, int inputs) {
    std::vector<float> blocks(long(outputs) * PLACES * inputs);
    float* to = blocks.data();
    for (int c = 0; c < inputs; c += LANES)
        for (int place = PLACES - 1; place >= 0; --place)
            for (int k = 0; k < outputs; ++k, to += LANES)
                store(to, load(weights + (long(k) * PLACES + place) * inputs + c));
    return blocks;
}

// PIXELS neighbours of one row, BLOCKS times 16 output channels of each.
template <int INPUTS, int PIXELS, int BLOCKS>
void convolve_pixels(const Window& window, long column, const float* weights, float* y,
                     int outputs) {
    Floats sums[BLOCKS][PIXELS] = {};
    for (int kh = 0; kh < 3; ++kh) {
        const float* x = window.at(kh, column);
        if (!x) continue;
        const float* w = weights + kh * 3 * INPUTS * LANES;
        for (int i = 0; i < 3 * INPUTS; ++i, ++x, w += LANES) {  // column of the kernel and channel
            Floats block[BLOCKS];
            for (int b = 0; b < BLOCKS; ++b) block[b] = load(w + b * PLACES * INPUTS * LANES);
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; ++p)
                for (int b = 0; b < BLOCKS; ++b) sums[b][p] += block[b] * x[p * INPUTS];
        }
    }
    for (int p = 0; p < PIXELS; ++p)
        for (int b = 0; b < BLOCKS; ++b) store(y + p * outputs + b * LANES, sums[b][p]);
}

// A row from `column` on, in pieces of PIXELS and what is left in smaller ones.
template <int INPUTS, int PIXELS, int BLOCKS>
void convolve_row(const Window& window, long width, const float* weights, float* y, int outputs,
                  long column = 0) {
    for (; column + PIXELS <= width; column += PIXELS)
        for (int k = 0; k < outputs; k += BLOCKS * LANES)
            convolve_pixels<INPUTS, PIXELS, BLOCKS>(
                window, column, weights + long(k) * PLACES * INPUTS, y + column * outputs + k,
                outputs);
    if constexpr (PIXELS > 1)
        convolve_row<INPUTS, PIXELS / 2, BLOCKS>(window, width, weights, y, outputs, column);
}

// y = x convolved with packed weights.
template <int INPUTS>
void convolve(const float* x, const float* weights, float* y, Images images, int outputs,
              int threads) {
    in_parallel(threads, images.rows(), [=](int, long begin, long end) {
        Window window(x, images, INPUTS);
        for (long row = begin; row < end; ++row) {
            window.move_to(row);
            float* to = y + row * images.width * outputs;
            if (outputs % (2 * LANES))
                convolve_row<INPUTS, 16, 1>(window, images.width, weights, to, outputs);
            else
                convolve_row<INPUTS, 8, 2>(window, images.width, weights, to, outputs);
        }
    });
}

void convolve(const float* x, const std::vector<float>& weights, float* y, Images images,
              int inputs, int outputs, int threads) {
    auto with = inputs == 16 ? convolve<16> : inputs == 32 ? convolve<32> : convolve<64>;
    with(x, weights.data(), y, images, outputs, threads);
}

struct Rows {
    long image, begin, end;  // of one image
};

// Adds the products of 16 output and 16 input channels at one place of the kernel.
void add_products(const float* dy, const float* x, Images images, Rows rows, int place,
                  int outputs, int inputs, float* dw) {
    long down = place / 3 - 1, right = place % 3 - 1, width = images.width;
    long begin = std::max(rows.begin, -down), end = std::min(rows.end, images.height - down);
    long left = std::max(0L, -right), count = width - std::abs(right);
    Floats sums[LANES] = {};
    for (long row = begin; row < end; ++row) {
        long at = (rows.image * images.height + row) * width + left;
        const float* from = x + (at + down * width + right) * inputs;
        const float* diff = dy + at * outputs;
        for (long p = 0; p < count; ++p, diff += outputs, from += inputs) {
            Floats values = load(from);
#pragma GCC unroll 16
            for (int k = 0; k < LANES; ++k) sums[k] += values * diff[k];
        }
    }
    for (int k = 0; k < LANES; ++k, dw += PLACES * inputs) store(dw, load(dw) + sums[k]);
}

// Adds the gradient of rows of pixels, counted over all images, some at a time.
void add_gradient(const float* dy, const float* x, float* dw, Images images, long begin, long end,
                  int outputs, int inputs) {
    long most = std::max(1L, NEAR / long(sizeof(float) * images.width * (outputs + inputs)));
    while (begin < end) {
        long image = begin / images.height, first = begin % images.height;
        Rows rows{image, first, std::min({first + most, images.height, first + end - begin})};
        for (int k = 0; k < outputs; k += LANES)
            for (int place = 0; place < PLACES; ++place)
                for (int c = 0; c < inputs; c += LANES)
                    add_products(dy + k, x + c, images, rows, place, outputs, inputs,
                                 dw + (long(k) * PLACES + place) * inputs + c);
        begin += rows.end - rows.begin;
    }
}

}  // namespace

extern "C" void convolve_3x3(const float* x, const float* weights, float* y, long count,
                             long height, long width, int inputs, int outputs, int threads) {
    convolve(x, packed(weights, outputs, inputs), y, {count, height, width}, inputs, outputs,
             threads);
}

// dx: the diffs convolved with the kernels turned around.
extern "C" void convolve_3x3_backward(const float* dy, const float* weights, float* dx, long count,
                                      long height, long width, int inputs, int outputs,
                                      int threads) {
    convolve(dy, packed_backward(weights, outputs, inputs), dx, {count, height, width}, outputs,
             inputs, threads);
}

// dw: for each place the sum over all pixels of diff times value.
extern "C" void convolve_3x3_backward_weights(const float* dy, const float* x, float* dw,
                                              long count, long height, long width, int inputs,
                                              int outputs, int threads) {
    Images images{count, height, width};
    long size = long(outputs) * PLACES * inputs;
    std::vector<std::vector<float>> parts(threads);
    in_parallel(threads, images.rows(), [&](int part, long begin, long end) {
        std::vector<float> sums(size);
        add_gradient(dy, x, sums.data(), images, begin, end, outputs, inputs);
        parts[part] = std::move(sums);
    });
    for (long i = 0; i < size; i += LANES) {
        Floats sum = load(&parts[0][i]);
        for (int part = 1; part < threads; ++part) sum += load(&parts[part][i]);
        store(dw + i, sum);
    }
}

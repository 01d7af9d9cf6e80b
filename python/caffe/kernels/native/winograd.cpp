// Convolutions of 3 x 3 and stride 1 by Winograd's F(2 x 2, 3 x 3): Lavin, Gray, Fast Algorithms for
// Convolutional Neural Networks, 2016. Images lie as (N, H, W, C), C a multiple of 16.
//
// A tile of 4 x 4 pixels and the window are transformed, and multiplied place by place; what is
// transformed back are 2 x 2 tops: 16 products for each channel in place of 36. Weights are packed
// as (16 places, panels, C, 32). A chunk is some groups of up to 14 tiles; place after place, its
// tiles, as (groups, C / 16, 14, 16), are multiplied by one panel after the other. A value that is not
// finite spoils all tops of its tiles.

#include "products.h"
#include "threads.h"

namespace {

constexpr int PLACES = 16;
constexpr long CHUNK = 1 << 17;   // values of the tiles and their products
constexpr int LEAST_GROUPS = 4;   // of a chunk, so that weights serve many tiles
constexpr int TURNS = 4;         // of each thread, if there are chunks enough
const float NOTHING[LANES] = {};

// Four values in a row of a tile, transformed: B^T d, with a step of `step` vectors.
void transform(Floats* d, int step) {
    Floats first = d[0] - d[2 * step], sum = d[step] + d[2 * step],
           difference = d[2 * step] - d[step], last = d[step] - d[3 * step];
    d[0] = first, d[step] = sum, d[2 * step] = difference, d[3 * step] = last;
}

// A row of a window, transformed to one of a tile: G g.
void transform_window(const Floats* g, int step, Floats* to) {
    Floats ends = (g[0] + g[2 * step]) * 0.5f, middle = g[step] * 0.5f;
    to[0] = g[0], to[1] = ends + middle, to[2] = ends - middle, to[3] = g[2 * step];
}

// Weights w[output][input][y][x], so many values from one to the next, and how they are packed.
struct Weights {
    const float* from;
    long output, input, y, x;
    int outputs, inputs;
    float* packed;

    // Packs those of a panel.
    void operator()(int panel) const {
        int first = panel * PANEL, some = std::min(PANEL, outputs - first);
        long size = over(outputs, PANEL) * inputs * PANEL;  // of a place
        float windows[9][PANEL] = {};
        for (int c = 0; c < inputs; ++c) {
            for (int k = 0; k < some; ++k)
                for (int i = 0; i < 9; ++i)
                    windows[i][k] = from[(first + k) * output + c * input + i / 3 * y + i % 3 * x];
            for (int half = 0; half < PANEL; half += LANES) {
                Floats window[9], rows[3][4], tile[4];
                for (int i = 0; i < 9; ++i) window[i] = load(windows[i] + half);
                for (int i = 0; i < 3; ++i) transform_window(window + 3 * i, 1, rows[i]);
                float* to = packed + ((long)panel * inputs + c) * PANEL + half;
                for (int column = 0; column < 4; ++column) {
                    transform_window(rows[0] + column, 4, tile);
                    for (int row = 0; row < 4; ++row) store(to + (4 * row + column) * size, tile[row]);
                }
            }
        }
    }
};

class Winograd {
public:
    Winograd(const Step& step, int threads)
        : s_(step), high_(over(step.y.tops, 2)), wide_(over(step.x.tops, 2)),
          panels_(over(step.outputs, PANEL)), tiles_((long)step.count * high_ * wide_),
          groups_(over(tiles_, MOST_PIXELS)), chunks_(best_chunks(TURNS * threads)),
          turns_(chunks_ < TURNS * threads ? 1 : TURNS), tile_(tiles_, groups_),
          group_(groups_, chunks_) {}

    long turns() const { return turns_; }
    long units() const { return chunks_ * panels_; }

    void operator()(long begin, long end) const {
        for (long last; begin < end; begin = last) {
            long chunk = begin / panels_;
            last = std::min(end, (chunk + 1) * panels_);
            int panel = begin % panels_;
            Part part{group_.begin(chunk), group_.begin(chunk + 1), panel,
                      (int)(panel + last - begin)};
            float* x = scratch<Winograd>(PLACES * (place_size(part) + product_size(part)));
            float* products = x + PLACES * place_size(part);
            for (long group = part.begin; group < part.end; ++group)
                for (long tile = tile_.begin(group); tile < tile_.begin(group + 1); ++tile)
                    take(tile, x + (group - part.begin) * group_size() +
                                   (tile - tile_.begin(group)) * LANES,
                         place_size(part));
            for (int place = 0; place < PLACES; ++place)
                multiply(part, place, x + place * place_size(part),
                         products + place * product_size(part));
            for (int panel = part.panel; panel < part.last_panel; ++panel)
                for (long tile = tile_.begin(part.begin); tile < tile_.begin(part.end); ++tile)
                    give(tile, panel, products + product(part, tile, panel), product_size(part));
        }
    }

private:
    struct Part {
        long begin, end;  // groups
        int panel, last_panel;
    };

    // A multiple of `pieces`, if there are as many.
    long best_chunks(long pieces) const {
        long group = (long)PLACES * MOST_PIXELS * (s_.inputs + s_.outputs);
        long chunks = over(groups_, std::max((long)LEAST_GROUPS, CHUNK / group));
        return chunks < pieces ? chunks : over(chunks, pieces) * pieces;
    }

    long group_size() const { return (long)MOST_PIXELS * s_.inputs; }
    long place_size(const Part& part) const { return (part.end - part.begin) * group_size(); }
    long product_size(const Part& part) const {
        return (part.last_panel - part.panel) * (tile_.begin(part.end) - tile_.begin(part.begin)) *
               PANEL;
    }
    long product(const Part& part, long tile, int panel) const {
        long tiles = tile_.begin(part.end) - tile_.begin(part.begin);
        return ((panel - part.panel) * tiles + tile - tile_.begin(part.begin)) * PANEL;
    }

    // Transforms a tile: place after place, each `size` values after the other.
    void take(long tile, float* to, long size) const {
        long image = tile / wide_ / high_;
        int y = s_.y.start(tile / wide_ % high_ * 2), x = s_.x.start(tile % wide_ * 2);
        const float* from[PLACES];
        long next[PLACES];
        for (int i = 0; i < PLACES; ++i) {
            int row = y + i / 4, column = x + i % 4;
            bool is_inside = row >= 0 && row < s_.y.size && column >= 0 && column < s_.x.size;
            from[i] = is_inside ? s_.image + ((image * s_.y.size + row) * s_.x.size + column) *
                                                 s_.image_pixel
                                : NOTHING;
            next[i] = is_inside;
        }
        for (int c = 0; c < s_.inputs; c += LANES, to += STEP) {
            Floats d[PLACES];
#pragma GCC unroll 16
            for (int i = 0; i < PLACES; ++i) d[i] = load(from[i] + next[i] * c);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) transform(d + i, 4);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) transform(d + 4 * i, 1);
#pragma GCC unroll 16
            for (int i = 0; i < PLACES; ++i) store(to + i * size, d[i]);
        }
    }

    void multiply(const Part& part, int place, const float* x, float* products) const {
        long panel_size = (long)s_.inputs * PANEL;
        const float* w = s_.weights + ((long)place * panels_ + part.panel) * panel_size;
        long groups = part.end - part.begin;
        for (int panel = part.panel; panel < part.last_panel; ++panel, w += panel_size) {
            Next next = Next::of(w + panel_size, panel_size, groups, s_.inputs);
            for (long group = 0; group < groups; ++group) {
                long first = tile_.begin(part.begin + group);
                Sums sums{nullptr, nullptr, products + product(part, first, panel), PANEL, false};
                MULTIPLY[tile_.begin(part.begin + group + 1) - first - 1](
                    x + group * group_size(), w, s_.inputs, sums, PANEL,
                    next.part(group, s_.inputs));
            }
        }
    }

    // Transforms the products of a tile back, each `size` values after the other, and adds the rest.
    void give(long tile, int panel, const float* products, long size) const {
        long image = tile / wide_ / high_;
        int y = tile / wide_ % high_ * 2, x = tile % wide_ * 2;
        Floats tops[2][2][2];  // (y, x, half of the panel)
        for (int half = 0; half < 2; ++half) {
            Floats rows[2][4];
            for (int i = 0; i < 4; ++i) {
                Floats m[4];
                for (int j = 0; j < 4; ++j)
                    m[j] = load(products + (4 * j + i) * size + half * LANES);
                rows[0][i] = m[0] + m[1] + m[2];
                rows[1][i] = m[1] - m[2] - m[3];
            }
            for (int row = 0; row < 2; ++row) {
                Floats* m = rows[row];
                tops[row][0][half] = m[0] + m[1] + m[2];
                tops[row][1][half] = m[1] - m[2] - m[3];
            }
        }
        for (int row = 0; row < std::min(2, s_.y.tops - y); ++row)
            for (int column = 0; column < std::min(2, s_.x.tops - x); ++column) {
                long pixel = (image * s_.y.tops + y + row) * s_.x.tops + x + column;
                Sums sums = Sums::of(s_, pixel, panel);
                Floats values[1][2];
                auto here = [](int) { return 0; };
                sums.begin<1>(here, values);
                for (int half = 0; half < 2; ++half) values[0][half] += tops[row][column][half];
                sums.finish<1>(here, values);
            }
    }

    const Step& s_;
    const int high_, wide_, panels_;
    const long tiles_, groups_, chunks_, turns_;
    const Parts tile_, group_;
};

}  // namespace

extern "C" void convolve_winograd(const Step* step, int threads) {
    Winograd winograd(*step, threads);
    in_turns(threads, winograd.turns(), winograd.units(),
             [&](long begin, long end) { winograd(begin, end); });
}

// Packs weights (outputs, inputs, 3, 3), so many values from one to the next along each axis.
extern "C" void transform_weights(const float* weights, long output, long input, long y, long x,
                                  int outputs, int inputs, float* packed, int threads) {
    Weights pack{weights, output, input, y, x, outputs, inputs, packed};
    in_turns(threads, 1, over(outputs, PANEL), [&](long begin, long end) {
        for (long panel = begin; panel < end; ++panel) pack(panel);
    });
}

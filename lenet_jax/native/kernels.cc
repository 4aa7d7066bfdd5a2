// The layers of a convolutional network on one core of a processor, for XLA's FFI.
//
// States are float [maps][height][width][images], as in layers/folding.py. A row of a map, all its
// pixels and in each of these all images, is one run of numbers; a window that moves by one pixel
// reads the same run `images` numbers further on. So the lanes of a vector are neighbours in that
// run, whatever the number of images is: with 32 images two vectors are a pixel, with one image a
// vector is sixteen pixels. There are no patches: each weight is multiplied with the vectors that
// it meets, and the sums of some maps and vectors stay in registers until bias and activation are
// done. Where a table leaves connections out, maps are taken by threes and for each input only
// those that read it.
//
// The sum of a unit runs over inputs, rows and columns of its window in that order, however many
// images there are and whichever vector it lies in. So the states of an image do not depend on its
// batch, to the last bit. No flag is needed that would give up NaN and infinity.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Size = int64_t;

#if defined(__AVX512F__)
constexpr int WIDTH = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int WIDTH = 8, REGISTERS = 16;
#else
constexpr int WIDTH = 4, REGISTERS = 32;  // NEON's; with SSE's 16 sums spill
#endif
constexpr bool MANY = REGISTERS == 32;

// Maps and vectors whose sums are made together: 24 of 32 registers, or 12 of 16, where all inputs
// are read, and with a table 21 or 9. The others hold the states, so that each is loaded once.
constexpr int MAPS = 6, SPARSE = 3;
constexpr int most_vectors(int maps) { return maps == SPARSE ? (MANY ? 7 : 3) : (MANY ? 4 : 2); }

typedef float Lanes __attribute__((vector_size(4 * WIDTH)));
typedef float Loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

inline Lanes load(const float* at) { return *reinterpret_cast<const Loose*>(at); }
inline void store(float* at, Lanes a) { *reinterpret_cast<Loose*>(at) = a; }
inline void store(float* at, Lanes a, Size lanes) {
  if (lanes >= WIDTH) return store(at, a);
  std::memcpy(at, &a, 4 * lanes);
}
inline Lanes all(float a) { return a - Lanes{}; }

template <int N>
struct Few {
  typedef float Type __attribute__((vector_size(4 * N)));
};
template <int N = WIDTH>
inline float sum(typename Few<N>::Type a) {
  if constexpr (N == 1) {
    return a[0];
  } else {
    typename Few<N / 2>::Type half[2];
    std::memcpy(half, &a, sizeof a);
    return sum<N / 2>(half[0] + half[1]);
  }
}

// What a unit makes of its sum, and the slope there, from its state.

enum Activation { NONE, RELU, TANH, SCALED_TANH, SIGMOID };
constexpr float A = 1.7159f, S = 2.0f / 3;  // appendix A

// 1 / q for q that are neither tiny nor huge: from the bits of q, then three steps of Newton's, to
// a last bit. A division takes as long as thirty products.
inline Lanes inverse(Lanes q) {
  typedef int32_t Bits __attribute__((vector_size(4 * WIDTH)));
  Bits bits;
  std::memcpy(&bits, &q, sizeof q);
  bits = 0x7EF311C7 - bits;
  Lanes r;
  std::memcpy(&r, &bits, sizeof r);
  for (int i = 0; i < 3; i++) r += r * (1.0f - q * r);
  return r;
}

// A rational function, as XLA has it. A comparison with NaN is false, so NaN stays.
inline Lanes tanh_of(Lanes x) {
  const Lanes most = all(7.90531110763549805f);
  x = x > most ? most : x;
  x = x < -most ? -most : x;
  const Lanes y = x * x;
  Lanes p = y * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = y * p - 8.60467152213735e-11f;
  p = y * p + 5.12229709037114e-08f;
  p = y * p + 1.48572235717979e-05f;
  p = y * p + 6.37261928875436e-04f;
  p = y * p + 4.89352455891786e-03f;
  Lanes q = y * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = y * q + 2.26843463243900e-03f;
  q = y * q + 4.89352518554385e-03f;
  return x * p * inverse(q);
}

inline Lanes activated(Activation f, Lanes a) {
  switch (f) {
    case RELU: return a < 0.0f ? Lanes{} : a;
    case TANH: return tanh_of(a);
    case SCALED_TANH: return A * tanh_of(S * a);
    case SIGMOID: return 0.5f + 0.5f * tanh_of(0.5f * a);
    default: return a;
  }
}

inline Lanes slope(Activation f, Lanes x) {
  switch (f) {
    case RELU: return x > 0.0f ? all(1) : x - x;  // of NaN NaN
    case TANH: return 1.0f - x * x;
    case SCALED_TANH: return A * S - (S / A) * (x * x);
    case SIGMOID: return x * (1.0f - x);
    default: return all(1);
  }
}

template <int N>
using number = std::integral_constant<int, N>;

inline Size up(Size a, Size b) { return (a + b - 1) / b * b; }

// Buffers that grow and stay: an update asks for the same ones again.
inline float* room(int which, Size numbers) {
  static thread_local std::vector<Lanes> rooms[6];
  std::vector<Lanes>& own = rooms[which];
  const Size lanes = (numbers + WIDTH - 1) / WIDTH;
  if (static_cast<Size>(own.size()) < lanes) own.resize(lanes);
  return reinterpret_cast<float*>(own.data());
}

// Maps with a border of zeros, each row of which is followed by zeros that a last vector may read.

struct Plane {
  const float* first;  // the top left number of the first map, in the border if there is one
  Size row, map;       // numbers from one to the next
  Size top, bottom;    // rows from `top` on and before `bottom` may be other than 0
};

// States [maps][height][width], width in numbers, where they lie if that suits, else copied: with
// `above` rows of zeros above and below, `before` zeros before a row, and `row` numbers in all.
Plane bordered(const float* states, Size maps, Size height, Size width, Size above, Size before,
               Size row, int which) {
  if (!above && !before && row == width) return {states, width, height * width, 0, height};
  const Size map = (height + 2 * above) * row;
  float* to = room(which, maps * map + WIDTH);
  const Size after = row - before - width;
  for (Size m = 0; m < maps; m++)
    for (Size y = 0; y < height + 2 * above; y++) {
      float* at = to + m * map + y * row;
      if (y < above || y >= above + height) {
        std::memset(at, 0, 4 * row);
        continue;
      }
      std::memset(at, 0, 4 * before);
      std::memcpy(at + before, states + (m * height + y - above) * width, 4 * width);
      std::memset(at + before + width, 0, 4 * after);
    }
  std::memset(to + maps * map, 0, 4 * WIDTH);
  return {to, row, map, above, above + height};
}

// A window of rows x columns pixels, `pixel` numbers from one column to the next. Its first weight
// is the kernel's `skipped`-th.
struct Window {
  Size rows, columns, pixel, skipped = 0;
};

// An input, and in bits which maps of a block read it.
struct Read {
  Size input;
  int maps;
};

// Where vectors are read and written, and the steps from one to the next. Before `end`, that of the
// first map, a vector is written whole: what it has too much is overwritten by those that follow.
struct Place {
  const float* from;
  Size step;
  float *to, *end;
  Size out;

  void move(Size vectors) { from += vectors * step, to += vectors * out; }
};

template <int BITS, int M, int U>
inline void add_window(Lanes (&sums)[M][U], const float* from, Size row, Size step, Window window,
                       const float* kernel, Size weights) {
  for (Size i = 0; i < window.rows; i++)
    for (Size j = 0; j < window.columns; j++) {
      Lanes x[U];
      for (int u = 0; u < U; u++) x[u] = load(from + i * row + j * window.pixel + u * step);
      for (int m = 0; m < M; m++)
        if (BITS >> m & 1) {
          const float weight = kernel[m * weights + i * window.columns + j];
          for (int u = 0; u < U; u++) sums[m][u] += weight * x[u];
        }
    }
}

// M maps of a layer.
struct Block {
  const float* kernel;
  Size taps, weights;  // of one input, and of all
  const float* bias;   // or null
  Activation activation;
  const Read *reads, *end;
};

template <int M, int U>
void units(const Block& block, Plane in, Window window, Place place, Size map) {
  Lanes sums[M][U] = {};
  for (const Read* read = block.reads; read != block.end; read++) {
    const float* x = place.from + read->input * in.map;
    const float* w = block.kernel + read->input * block.taps + window.skipped;
    const Size step = place.step, n = block.weights;
    if constexpr (M == SPARSE) switch (read->maps) {
      case 1: add_window<1>(sums, x, in.row, step, window, w, n); continue;
      case 2: add_window<2>(sums, x, in.row, step, window, w, n); continue;
      case 3: add_window<3>(sums, x, in.row, step, window, w, n); continue;
      case 4: add_window<4>(sums, x, in.row, step, window, w, n); continue;
      case 5: add_window<5>(sums, x, in.row, step, window, w, n); continue;
      case 6: add_window<6>(sums, x, in.row, step, window, w, n); continue;
    }
    add_window<(1 << M) - 1>(sums, x, in.row, step, window, w, n);
  }
  for (int m = 0; m < M; m++)
    for (int u = 0; u < U; u++) {
      const Lanes biased = sums[m][u] + (block.bias ? block.bias[m] : 0.0f);
      float* to = place.to + u * place.out;
      store(to + m * map, activated(block.activation, biased), place.end - to);
    }
}

// `each` vectors at a time; fewer than U, and the last ones, are for a smaller U.
template <int M, int U = most_vectors(M)>
void some_units(const Block& block, Plane in, Window window, Place place, Size count, Size each,
                Size map) {
  if (each == U)
    for (; count >= U; count -= U, place.move(U)) units<M, U>(block, in, window, place, map);
  if constexpr (U > 1)
    if (count) some_units<M, U - 1>(block, in, window, place, count, std::min(each, count), map);
}

template <int M>
void every_unit(const Block& block, Plane in, Window window, Place place, Size count, Size map) {
  const Size calls = (count + most_vectors(M) - 1) / most_vectors(M);
  some_units<M>(block, in, window, place, count, (count + calls - 1) / calls, map);
}

// Of a layer's maps: how many, what they read, and how their outputs lie.
struct Layer {
  const float* kernel;  // [maps][inputs rows columns]
  const float* bias;
  Activation activation;
  Size inputs, maps;
  const int32_t* table;  // [maps][inputs], 1 where a map reads an input, or null: it reads all
  Window window;
  Size stride;         // pixels
  Size rows, columns;  // of the outputs

  // What `maps` maps from the `first` on read is put behind `reads`, where there is room for it.
  Block block(Size first, int maps, Read*& reads) const {
    const Size taps = window.rows * window.columns, weights = inputs * taps;
    const float* own_bias = bias ? bias + first : nullptr;
    Block b{kernel + first * weights, taps, weights, own_bias, activation, reads, reads};
    for (Size i = 0; i < inputs; i++) {
      int bits = 0;
      for (int m = 0; m < maps; m++) bits |= (!table || table[(first + m) * inputs + i]) << m;
      if (bits) *reads++ = {i, bits};
    }
    b.end = reads;
    return b;
  }
};

// All units of a layer, from states with their border to states [maps][rows][columns images].
void all_units(const Layer& layer, Plane in, float* out) {
  const Size pixel = layer.window.pixel, down = layer.stride * in.row;
  const Size run = layer.stride == 1 ? layer.columns * pixel : pixel;  // what vectors may cross
  const Size width = layer.columns * pixel, map = layer.rows * width, whole = run / WIDTH;
  const Size last = std::max<Size>(0, run - WIDTH);  // vectors that overlap have the same sums

  struct Part {
    int maps;
    Block block;
    Size first;
  };
  static thread_local std::vector<Part> parts;
  static thread_local std::vector<Read> reads;
  parts.clear();
  reads.resize(layer.maps * layer.inputs);
  Read* free = reads.data();
  for (Size m = 0; m < layer.maps;) {
    const Size left = layer.maps - m;
    const int maps = layer.table ? (left >= SPARSE ? SPARSE : 1)
                                 : left >= MAPS ? MAPS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    parts.push_back({maps, layer.block(m, maps, free), m});
    m += maps;
  }
  // The `count` vectors from row `y` and number `x` of it on. Of rows of zeros nothing is read; but
  // windows of several rows of outputs, that lie one below the other, read all.
  auto every_map = [&](Size y, Size x, Size step, Size out_step, Size count) {
    Place place{in.first + y * down + x, step, out + y * width + x, out + map, out_step};
    Window window = layer.window;
    if (step != down) {
      const Size top = layer.stride * y, above = std::clamp<Size>(in.top - top, 0, window.rows);
      window.rows = std::clamp<Size>(in.bottom - top, above, window.rows) - above;
      window.skipped = above * window.columns;
      place.from += above * in.row;
    }
    for (const Part& part : parts) {
      switch (part.maps) {
        case MAPS: every_unit<MAPS>(part.block, in, window, place, count, map); break;
        case 4: every_unit<4>(part.block, in, window, place, count, map); break;
        case SPARSE: every_unit<SPARSE>(part.block, in, window, place, count, map); break;
        case 2: every_unit<2>(part.block, in, window, place, count, map); break;
        default: every_unit<1>(part.block, in, window, place, count, map);
      }
      place.to += part.maps * map, place.end += part.maps * map;
    }
  };
  if (layer.stride > 1) {  // vectors lie in a pixel, and the next one is that of the next column
    for (Size y = 0; y < layer.rows; y++)
      for (Size x = 0; x < run; x += WIDTH)
        every_map(y, std::min(x, last), layer.stride * pixel, pixel, layer.columns);
  } else if (whole >= 4) {  // in a row, one behind the other: so many that they stay near
    const Size some = layer.table ? most_vectors(SPARSE) : 2 * most_vectors(MAPS);
    for (Size y = 0; y < layer.rows; y++) {
      for (Size x = 0; x < whole; x += some)
        every_map(y, x * WIDTH, WIDTH, WIDTH, std::min(some, whole - x));
      if (run % WIDTH) every_map(y, last, WIDTH, WIDTH, 1);
    }
  } else {  // rows of few vectors: one below the other
    for (Size x = 0; x < run; x += WIDTH)
      every_map(0, std::min(x, last), down, width, layer.rows);
  }
}

// The gradient of the kernel: the sums over all units of gradient times state, for M maps and I
// rows and J columns of the window at a time.

constexpr Size NEAR = 1 << 17, FAR = 1 << 18;  // bytes that are gone through many times

struct Slide {
  Size rows, columns, run;       // of units: vectors may not leave a run
  Size down, right;              // numbers between the states of neighbours
  Size own_down, own_right;      // and between their gradients
};

template <int M, int I, int J>
void add_products(const float* const (&gradients)[M], const float* states, Size row, Size pixel,
                  const Slide& slide, float* const (&to)[M], Size columns) {
  Lanes sums[M][I][J] = {};
  for (Size y = 0; y < slide.rows; y++)
    for (Size c = 0; c < slide.columns; c++)
      for (Size x = 0; x < slide.run; x += WIDTH) {
        const float* from = states + y * slide.down + c * slide.right + x;
        const Size own = y * slide.own_down + c * slide.own_right + x;
        Lanes gradient[M];
        for (int m = 0; m < M; m++) gradient[m] = load(gradients[m] + own);
        for (int i = 0; i < I; i++)
          for (int j = 0; j < J; j++) {
            const Lanes state = load(from + i * row + j * pixel);
            for (int m = 0; m < M; m++) sums[m][i][j] += gradient[m] * state;
          }
      }
  for (int m = 0; m < M; m++)
    for (int i = 0; i < I; i++)
      for (int j = 0; j < J; j++) to[m][i * columns + j] += sum(sums[m][i][j]);
}

// The whole window.
template <int M>
void add_window_products(const float* const (&gradients)[M], const float* states, Size row,
                         Window window, const Slide& slide, float* const (&to)[M]) {
  const Size columns = window.columns, pixel = window.pixel;
  if constexpr (MANY && M <= 3)
    if (window.rows == 3 && columns == 3)
      return add_products<M, 3, 3>(gradients, states, row, pixel, slide, to, columns);
  for (Size i = 0; i < window.rows; i++)
    for (Size j = 0; j < columns;) {
      float* at[M];
      for (int m = 0; m < M; m++) at[m] = to[m] + i * columns + j;
      const float* from = states + i * row + j * pixel;
      const Size left = columns - j;
      if (left >= 5) {
        add_products<M, 1, 5>(gradients, from, row, pixel, slide, at, columns), j += 5;
      } else if (left >= 3) {
        add_products<M, 1, 3>(gradients, from, row, pixel, slide, at, columns), j += 3;
      } else if (left == 2) {
        add_products<M, 1, 2>(gradients, from, row, pixel, slide, at, columns), j += 2;
      } else {
        add_products<M, 1, 1>(gradients, from, row, pixel, slide, at, columns), j += 1;
      }
    }
}

// `gradients` have zeros wherever a vector reads beyond a run. Gone through are so many rows that
// those of a few maps and one input stay near, and so many inputs that theirs do not go far.
void kernel_gradient(const Layer& layer, Plane in, Plane gradients, Size own_right, float* to) {
  const Window window = layer.window;
  const Size taps = window.rows * window.columns, weights = layer.inputs * taps;
  const Size most = MANY ? (taps == 9 ? 3 : 4) : 2;  // maps at a time
  std::memset(to, 0, 4 * layer.maps * weights);
  const bool one_run = layer.stride == 1;
  Slide slide{0, one_run ? 1 : layer.columns, one_run ? layer.columns * window.pixel : window.pixel,
              layer.stride * in.row, layer.stride * window.pixel, gradients.row, own_right};
  const Size block =
      std::clamp<Size>(NEAR / (4 * (most * gradients.row + slide.down)), 1, layer.rows);
  const Size some = std::clamp<Size>(FAR / (4 * block * slide.down), 1, layer.inputs);
  std::vector<std::vector<Size>> readers(layer.inputs);  // the maps that read an input
  Size all = 0;
  for (Size i = 0; i < layer.inputs; i++) {
    for (Size m = 0; m < layer.maps; m++)
      if (!layer.table || layer.table[m * layer.inputs + i]) readers[i].push_back(m);
    all = std::max<Size>(all, readers[i].size());
  }
  for (Size y = 0; y < layer.rows; y += block) {
    slide.rows = std::min(block, layer.rows - y);
    for (Size first = 0; first < layer.inputs; first += some)
      for (Size from = 0; from < all; from += most)
        for (Size i = first; i < std::min(first + some, layer.inputs); i++) {
          const float* states = in.first + i * in.map + layer.stride * y * in.row;
          Size at = from;
          const Size end = std::min<Size>(from + most, readers[i].size());
          auto maps = [&](auto count) {
            constexpr int M = count;
            const float* theirs[M];
            float* own[M];
            for (int m = 0; m < M; m++) {
              const Size map = readers[i][at + m];
              theirs[m] = gradients.first + map * gradients.map + y * gradients.row;
              own[m] = to + map * weights + i * taps;
            }
            add_window_products<M>(theirs, states, in.row, window, slide, own);
            at += M;
          };
          if constexpr (MANY) {
            if (end - at >= 4) maps(number<4>{});
            if (end - at >= 3) maps(number<3>{});
          }
          if (end - at >= 2) maps(number<2>{});
          if (end - at >= 1) maps(number<1>{});
        }
  }
}

// Of few images a run is shorter than it takes to add up the lanes of a vector. Then the lanes are
// maps, and states are what all of them are multiplied with. `gradients` are [units][maps]. ONE
// says that a pixel is one number; then places in a row need no registers.
template <int I, int J, bool ONE>
void add_products_of_maps(const Layer& layer, Plane in, const float* gradients, Size maps,
                          Size input, Size row, Size column, float* to) {
  const Window window = layer.window;
  const Size taps = window.rows * window.columns, weights = layer.inputs * taps;
  const Size pixel = ONE ? 1 : window.pixel, run = layer.columns * pixel;
  const float* states = in.first + input * in.map + row * in.row + column * pixel;
  for (Size first = 0; first < layer.maps; first += WIDTH) {
    Lanes sums[I][J] = {};
    const float* at = gradients + first;
    for (Size y = 0; y < layer.rows; y++)
      for (Size x = 0; x < run; x++, at += maps) {
        const Lanes gradient = load(at);
        const float* from = states + y * in.row + x;
        for (int i = 0; i < I; i++)
          for (int j = 0; j < J; j++) sums[i][j] += gradient * from[i * in.row + j * pixel];
      }
    for (Size m = first; m < std::min(first + WIDTH, layer.maps); m++)
      if (!layer.table || layer.table[m * layer.inputs + input]) {
        float* own = to + m * weights + input * taps + row * window.columns + column;
        for (int i = 0; i < I; i++)
          for (int j = 0; j < J; j++) own[i * window.columns + j] = sums[i][j][m - first];
      }
  }
}

template <bool ONE>
void kernel_gradient_of_few(const Layer& layer, Plane in, Plane gradients, float* to) {
  const Size run = layer.columns * layer.window.pixel, maps = up(layer.maps, WIDTH);
  float* turned = room(5, layer.rows * run * maps);
  std::memset(turned, 0, 4 * layer.rows * run * maps);
  for (Size y = 0; y < layer.rows; y++)
    for (Size m = 0; m < layer.maps; m++) {
      const float* from = gradients.first + m * gradients.map + y * gradients.row;
      for (Size x = 0; x < run; x++) turned[(y * run + x) * maps + m] = from[x];
    }
  const Window window = layer.window;
  std::memset(to, 0, 4 * layer.maps * layer.inputs * window.rows * window.columns);
  for (Size i = 0; i < layer.inputs; i++)
    for (Size row = 0; row < window.rows;) {
      const Size rows = MANY && window.columns == 5 && window.rows - row >= 5 ? 5 : 1;
      for (Size column = 0; column < window.columns;) {
        const Size left = window.columns - column;
        auto add = [&](auto high, auto wide) {
          add_products_of_maps<high, wide, ONE>(layer, in, turned, maps, i, row, column, to);
          column += wide;
        };
        if (rows == 5) {
          add(number<MANY ? 5 : 1>{}, number<5>{});
        } else if (left >= 5) {
          add(number<1>{}, number<5>{});
        } else if (left >= 3) {
          add(number<1>{}, number<3>{});
        } else {
          add(number<1>{}, number<1>{});
        }
      }
      row += rows;
    }
}

// gradient times slope, in rows of `run` numbers, each with zeros up to a whole vector; the arrays
// have `left` numbers. Returns the sum.
float through_activation(Activation f, const float* states, const float* gradient, Size left,
                         Size rows, Size run, float* to, Size row) {
  Lanes total{}, number{};
  for (int i = 0; i < WIDTH; i++) number[i] = i;
  for (Size y = 0; y < rows; y++, states += run, gradient += run, left -= run, to += row)
    for (Size x = 0; x < run; x += WIDTH) {
      Lanes state{}, own{};
      if (left - x >= WIDTH) {
        state = load(states + x), own = load(gradient + x);
      } else {
        const Size bytes = 4 * (left - x);
        std::memcpy(&state, states + x, bytes), std::memcpy(&own, gradient + x, bytes);
      }
      own *= slope(f, state);
      if (run - x < WIDTH) own = number < static_cast<float>(run - x) ? own : Lanes{};
      store(to + x, own);
      total += own;
    }
  return sum(total);
}

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;
using Table = ffi::Span<const int32_t>;

struct Shape {
  Size inputs, height, width, images, maps, size, stride, padding;
  Size rows() const { return (height + 2 * padding - size) / stride + 1; }
  Size columns() const { return (width + 2 * padding - size) / stride + 1; }
  // Of pixels 0, stride, 2 stride and so on, from the `first` one: how many of so many with their
  // border, and how many of the window; and the rows around the outputs that these windows reach.
  Size share(Size pixels, Size first) const {
    return (pixels + 2 * padding - first + stride - 1) / stride;
  }
  Size share_of_window(Size first) const {
    return first < size ? (size - first + stride - 1) / stride : 0;
  }
  Size border() const {
    const Size down = share(height, 0) - rows(), right = share(width, 0) - columns();
    return std::max({share_of_window(0) - 1, down, right});
  }
  // Numbers in a row of states with their border, and after it what a last vector may read.
  Size row() const {
    const Size own = (width + 2 * padding) * images;
    const Size run = stride == 1 ? columns() * images : images;
    if (run % WIDTH == 0) return own;
    return std::max(own, (stride == 1 ? (size - 1) * images : own - images) + up(run, WIDTH));
  }
};

Layer layer_of(const Shape& s, const float* kernel, const float* bias, Activation f, Table table,
               Size group, Size groups) {
  const Size inputs = s.inputs / groups, maps = s.maps / groups, taps = s.size * s.size;
  return {kernel + group * maps * inputs * taps, bias ? bias + group * maps : nullptr, f, inputs,
          maps, table.size() ? table.begin() : nullptr, {s.size, s.size, s.images}, s.stride,
          s.rows(), s.columns()};
}

Shape shape_of(Array kernel, Array states, Size size, Size stride, Size padding) {
  const auto d = states.dimensions();
  return {d[0], d[1], d[2], d[3], kernel.dimensions()[0], size, stride, padding};
}

ffi::Error Convolve(Array kernel, Array bias, Array states, Result out, Size size, Size stride,
                    Size padding, Size groups, Size activation, Table table) {
  const Shape s = shape_of(kernel, states, size, stride, padding);
  const Plane in = bordered(states.typed_data(), s.inputs, s.height, s.width * s.images, padding,
                            padding * s.images, s.row(), 0);
  for (Size g = 0; g < groups; g++) {
    const Layer layer = layer_of(s, kernel.typed_data(), bias.typed_data(),
                                 static_cast<Activation>(activation), table, g, groups);
    const Plane own{in.first + g * layer.inputs * in.map, in.row, in.map, in.top, in.bottom};
    all_units(layer, own,
              out->typed_data() + g * layer.maps * s.rows() * s.columns() * s.images);
  }
  return ffi::Error::Success();
}

// The gradient of states: sums over the gradients of the outputs, with the kernel turned round, its
// maps and inputs exchanged. A window that moves by more than a pixel is several smaller ones:
// those pixels that are as far from a window's first one, modulo the stride, meet the same weights.
void states_gradient(const Shape& s, const Layer& layer, Plane gradients, Size border, float* to) {
  std::vector<int32_t> table(layer.table ? layer.maps * layer.inputs : 0);
  for (size_t at = 0; at < table.size(); at++)
    table[at] = layer.table[at % layer.maps * layer.inputs + at / layer.maps];
  for (Size down = 0; down < s.stride; down++)
    for (Size right = 0; right < s.stride; right++) {
      const Size rows = s.share(s.height, down), columns = s.share(s.width, right);
      const Size high = s.share_of_window(down), wide = s.share_of_window(right);
      const Size taps = high * wide, run = columns * s.images;
      float* turned = room(3, layer.maps * layer.inputs * taps);
      for (Size m = 0; m < layer.maps; m++)
        for (Size i = 0; i < layer.inputs; i++) {
          const float* from =
              layer.kernel + ((m * layer.inputs + i) * s.size + down) * s.size + right;
          float* to = turned + (i * layer.maps + m + 1) * taps;
          if (s.stride == 1) {
            std::reverse_copy(from, from + taps, to - taps);
            continue;
          }
          for (Size y = 0; y < high; y++, from += s.stride * s.size)
            for (Size x = 0; x < wide; x++) *--to = from[x * s.stride];
        }
      const bool whole = s.stride == 1 && !s.padding;
      float* part = whole ? to : room(4, layer.inputs * rows * run);
      const float* first = gradients.first + (border - high + 1) * gradients.row +
                           (border - wide + 1) * s.images;
      all_units({turned, nullptr, NONE, layer.maps, layer.inputs,
                 layer.table ? table.data() : nullptr, {high, wide, s.images}, 1, rows, columns},
                {first, gradients.row, gradients.map, high - 1, high - 1 + s.rows()}, part);
      if (whole) return;
      for (Size i = 0; i < layer.inputs; i++)
        for (Size y = 0; y < rows; y++)
          for (Size x = 0; x < columns; x++) {
            const Size row = y * s.stride + down - s.padding;
            const Size column = x * s.stride + right - s.padding;
            if (row >= 0 && row < s.height && column >= 0 && column < s.width)
              std::memcpy(to + ((i * s.height + row) * s.width + column) * s.images,
                          &part[(i * rows + y) * run + x * s.images], 4 * s.images);
          }
    }
}

ffi::Error convolve_back(Array kernel, Array states, Array outputs, Array gradient,
                         Result to_kernel, Result to_bias, float* to_states, Size size, Size stride,
                         Size padding, Size groups, Size activation, Table table) {
  const Shape s = shape_of(kernel, states, size, stride, padding);
  const Plane in = bordered(states.typed_data(), s.inputs, s.height, s.width * s.images, padding,
                            padding * s.images, s.row(), 0);
  const Size rows = s.rows(), columns = s.columns(), run = columns * s.images;
  // The gradients of the weighted sums, with a border for the windows of `states_gradient`, and
  // zeros where a vector reads too far.
  const Size border = to_states ? s.border() : 0, before = border * s.images;
  const Size across = std::max(run, to_states ? s.share(s.width, 0) * s.images : 0);
  const Size row = 2 * before + up(across, WIDTH), map = (rows + 2 * border) * row;
  float* first = room(1, s.maps * map + WIDTH);
  if (row != run) std::memset(first, 0, 4 * (s.maps * map + WIDTH));
  const Plane wide{first, row, map, border, border + rows};
  Plane bare{first + border * row + before, row, map, 0, rows};
  for (Size m = 0; m < s.maps; m++) {
    const Size at = m * rows * run;
    to_bias->typed_data()[m] = through_activation(
        static_cast<Activation>(activation), outputs.typed_data() + at, gradient.typed_data() + at,
        s.maps * rows * run - at, rows, run, first + m * map + border * row + before, row);
  }
  // For the kernel a run is a pixel where the window leaves some out; then each pixel has zeros.
  const Size pixel = up(s.images, WIDTH);
  const bool apart = stride > 1 && pixel != s.images;
  if (apart) {
    float* to = room(2, s.maps * rows * columns * pixel);
    std::memset(to, 0, 4 * s.maps * rows * columns * pixel);
    for (Size m = 0; m < s.maps; m++)
      for (Size y = 0; y < rows; y++)
        for (Size c = 0; c < columns; c++)
          std::memcpy(to + ((m * rows + y) * columns + c) * pixel,
                      bare.first + m * map + y * row + c * s.images, 4 * s.images);
    bare = {to, columns * pixel, rows * columns * pixel, 0, rows};
  }
  for (Size g = 0; g < groups; g++) {
    const Layer layer = layer_of(s, kernel.typed_data(), nullptr, NONE, table, g, groups);
    const Plane own{in.first + g * layer.inputs * in.map, in.row, in.map, in.top, in.bottom};
    const Plane narrow{bare.first + g * layer.maps * bare.map, bare.row, bare.map, 0, rows};
    float* to = to_kernel->typed_data() + g * layer.maps * layer.inputs * size * size;
    if (stride == 1 && run <= WIDTH && layer.maps >= WIDTH / 2) {
      const auto of_few = s.images == 1 ? kernel_gradient_of_few<true>
                                        : kernel_gradient_of_few<false>;
      of_few(layer, own, narrow, to);
    } else {
      kernel_gradient(layer, own, narrow, apart ? pixel : s.images, to);
    }
    const float* of_group = wide.first + g * layer.maps * map;
    if (to_states)
      states_gradient(s, layer, {of_group, row, map, border, border + rows}, border,
                      to_states + g * layer.inputs * s.height * s.width * s.images);
  }
  return ffi::Error::Success();
}

ffi::Error ConvolveBack(Array kernel, Array states, Array outputs, Array gradient, Result to_kernel,
                        Result to_bias, Result to_states, Size size, Size stride, Size padding,
                        Size groups, Size activation, Table table) {
  return convolve_back(kernel, states, outputs, gradient, to_kernel, to_bias,
                       to_states->typed_data(), size, stride, padding, groups, activation, table);
}

// Of a first layer nobody asks what its states should be.
ffi::Error ConvolveBackFirst(Array kernel, Array states, Array outputs, Array gradient,
                             Result to_kernel, Result to_bias, Size size, Size stride, Size padding,
                             Size groups, Size activation, Table table) {
  return convolve_back(kernel, states, outputs, gradient, to_kernel, to_bias, nullptr, size, stride,
                       padding, groups, activation, table);
}

// Subsampling: of a map the sums of 2x2 pixels, in rows of width / 2 pixels. ONE says that a pixel
// is one number; then the compiler finds vectors.
template <bool ONE>
void add_four(const float* from, Size rows, Size width, Size images, float* to) {
  if (ONE) images = 1;
  for (Size y = 0; y < rows; y++) {
    const float *above = from + 2 * y * width * images, *below = above + width * images;
    for (Size c = 0; c < width / 2; c++, to += images)
      for (Size n = 0, at = 2 * c * images; n < images; n++, at++)
        to[n] = (above[at] + below[at]) + (above[at + images] + below[at + images]);
  }
}

// Its transpose.
template <bool ONE>
void to_four(const float* from, Size rows, Size width, Size images, float* to) {
  if (ONE) images = 1;
  const Size columns = width / 2;
  for (Size y = 0; y < rows; y++, from += columns * images) {
    float* above = to + 2 * y * width * images;
    for (Size c = 0; c < columns; c++)
      for (Size n = 0, at = 2 * c * images; n < images; n++, at++)
        above[at] = above[at + images] = from[c * images + n];
    std::memcpy(above + width * images, above, 4 * 2 * columns * images);
  }
}

ffi::Error Subsample(Array coefficient, Array bias, Array states, Result out, Size activation) {
  const auto d = states.dimensions();
  const Size maps = d[0], height = d[1], width = d[2], images = d[3];
  const Size rows = height / 2, map = rows * (width / 2) * images;
  float* sums = room(0, map);
  for (Size m = 0; m < maps; m++) {
    const float* from = states.typed_data() + m * height * width * images;
    (images == 1 ? add_four<true> : add_four<false>)(from, rows, width, images, sums);
    float* to = out->typed_data() + m * map;
    for (Size x = 0; x < map; x += WIDTH) {
      const Lanes weighed = load(sums + x) * coefficient.typed_data()[m] + bias.typed_data()[m];
      store(to + x, activated(static_cast<Activation>(activation), weighed), map - x);
    }
  }
  return ffi::Error::Success();
}

ffi::Error SubsampleBack(Array coefficient, Array states, Array outputs, Array gradient,
                         Result to_coefficient, Result to_bias, Result to_states, Size activation) {
  const auto d = states.dimensions();
  const Size maps = d[0], height = d[1], width = d[2], images = d[3];
  const Size rows = height / 2, map = rows * (width / 2) * images;
  float *sums = room(0, map), *own = room(1, map);
  if (height % 2 || width % 2) std::memset(to_states->typed_data(), 0, to_states->size_bytes());
  for (Size m = 0; m < maps; m++) {
    const Size at = m * height * width * images;
    const auto add = images == 1 ? add_four<true> : add_four<false>;
    add(states.typed_data() + at, rows, width, images, sums);
    to_bias->typed_data()[m] =
        through_activation(static_cast<Activation>(activation), outputs.typed_data() + m * map,
                           gradient.typed_data() + m * map, (maps - m) * map, 1, map, own, map);
    float total = 0;
    Lanes products{};
    Size x = 0;
    const Lanes weight = all(coefficient.typed_data()[m]);
    for (; x + WIDTH <= map; x += WIDTH) {
      products += load(own + x) * load(sums + x);
      store(own + x, load(own + x) * weight);
    }
    for (; x < map; x++) total += own[x] * sums[x], own[x] *= weight[0];
    to_coefficient->typed_data()[m] = sum(products) + total;
    const auto spread = images == 1 ? to_four<true> : to_four<false>;
    spread(own, rows, width, images, to_states->typed_data() + at);
  }
  return ffi::Error::Success();
}

}  // namespace

#define WINDOW                                                                       \
  Attr<Size>("size").Attr<Size>("stride").Attr<Size>("padding").Attr<Size>("groups") \
      .Attr<Size>("activation").Attr<Table>("table")

XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetConvolve, Convolve, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>()
    .Ret<Array>().WINDOW);
XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetConvolveBack, ConvolveBack, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
    .Ret<Array>().Ret<Array>().Ret<Array>().WINDOW);
XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetConvolveBackFirst, ConvolveBackFirst, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
    .Ret<Array>().Ret<Array>().WINDOW);
XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetSubsample, Subsample, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>()
    .Ret<Array>().Attr<Size>("activation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetSubsampleBack, SubsampleBack, ffi::Ffi::Bind()
    .Arg<Array>().Arg<Array>().Arg<Array>().Arg<Array>()
    .Ret<Array>().Ret<Array>().Ret<Array>().Attr<Size>("activation"));

// Images sampled at any places, for XLA's FFI: data/distort.py's `sample`, many images at a time.
//
// The image is copied into a border of zeros; then a place beyond it needs no question but how far
// it may go, and the four neighbours of a place are read wherever it is. The loops over places have
// no branches, so that the compiler finds vectors.

#include <cstdint>
#include <cstring>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

// At least -1 and at most `most`; of what is not a number -1.
inline float within(float place, float most) {
  place = place > -1.0f ? place : -1.0f;
  return place < most ? place : most;
}

// images [..., h, w] at places [..., 2, rows, columns], in rows and columns.
ffi::Error Sample(ffi::Buffer<ffi::F32> images, ffi::Buffer<ffi::F32> places,
                  ffi::ResultBuffer<ffi::F32> out) {
  const auto d = images.dimensions(), shown = out->dimensions();
  const int height = d[d.size() - 2], width = d[d.size() - 1], row = width + 3;
  const int64_t pixels = shown[shown.size() - 2] * shown[shown.size() - 1];
  std::vector<float> bordered((height + 3) * row, 0.0f);
  std::vector<int32_t> at(pixels);
  std::vector<float> down(pixels), right(pixels);
  for (int64_t n = 0; n < static_cast<int64_t>(images.element_count()) / (height * width); n++) {
    for (int y = 0; y < height; y++)
      std::memcpy(&bordered[(y + 1) * row + 1], images.typed_data() + (n * height + y) * width,
                  4 * width);
    const float *rows = places.typed_data() + n * 2 * pixels, *columns = rows + pixels;
    for (int64_t p = 0; p < pixels; p++) {
      const float y = within(rows[p], height), x = within(columns[p], width);
      const int32_t i = static_cast<int32_t>(y + 1.0f), j = static_cast<int32_t>(x + 1.0f);
      at[p] = i * row + j;
      down[p] = y - static_cast<float>(i - 1);
      right[p] = x - static_cast<float>(j - 1);
    }
    float* to = out->typed_data() + n * pixels;
    const float *above = bordered.data(), *below = above + row;
    for (int64_t p = 0; p < pixels; p++) {
      const float first = above[at[p]] * (1 - right[p]) + above[at[p] + 1] * right[p];
      const float second = below[at[p]] * (1 - right[p]) + below[at[p] + 1] * right[p];
      to[p] = first * (1 - down[p]) + second * down[p];
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(LenetSample, Sample,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

// LeNet-5 and what prepares a digit for it, as a reader for page.html: no server is asked.
// `network` is what exporting/page.py writes: name, limits and the arrays of the torch format.
function localReader(network) {
  const bytes = base64 => Uint8Array.from(atob(base64), c => c.charCodeAt(0));

  // Numbers as they are; or whole ones of 16 bits, with a scale for each unit.
  function unpacked({ values, scales }) {
    if (!scales) return new Float32Array(bytes(values).buffer);
    const whole = new Int16Array(bytes(values).buffer), scale = unpacked({ values: scales });
    const row = whole.length / scale.length;
    return Float32Array.from(whole, (value, at) => value * scale[Math.floor(at / row)]);
  }

  const arrays = Object.fromEntries(Object.entries(network.arrays).map(([name, array]) => [name, unpacked(array)]));

  // ---- the network (sections II-B and II-C). Maps lie one after the other, row by row.

  const activated = sum => 1.7159 * Math.tanh(sum * 2 / 3);

  function convolved(states, side, size, name) {
    const weight = arrays[`${name}.weight`], bias = arrays[`${name}.bias`];
    const inputs = states.length / side ** 2, out = side - size + 1;
    const found = new Float64Array(bias.length * out * out);
    let at = 0;
    for (let map = 0; map < bias.length; map++) {
      const sums = found.subarray(map * out * out, (map + 1) * out * out).fill(bias[map]);
      for (let input = 0; input < inputs; input++) {
        for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
          const w = weight[at++];
          for (let row = 0; w && row < out; row++) {
            const from = (input * side + row + y) * side + x;
            for (let column = 0; column < out; column++) sums[row * out + column] += w * states[from + column];
          }
        }
      }
    }
    return found.map(activated);
  }

  function subsampled(states, side, name) {
    const coefficient = arrays[`${name}.coefficient`], bias = arrays[`${name}.bias`], out = side / 2;
    return new Float64Array(bias.length * out * out).map((_, at) => {
      const map = Math.floor(at / out ** 2), row = Math.floor(at / out) % out, column = at % out;
      const from = (map * side + 2 * row) * side + 2 * column;
      const added = states[from] + states[from + 1] + states[from + side] + states[from + side + 1];
      return activated(coefficient[map] * added + bias[map]);
    });
  }

  // The penalties of an image, 28x28 bytes, and the states of all layers.
  function run(image) {
    const input = new Float64Array(32 * 32).fill(-0.1);
    image.forEach((level, at) => { input[32 * (2 + Math.floor(at / 28)) + 2 + at % 28] = level * 1.275 / 255 - 0.1; });
    const c1 = convolved(input, 32, 5, "c1"), s2 = subsampled(c1, 28, "s2");
    const c3 = convolved(s2, 14, 5, "c3"), s4 = subsampled(c3, 10, "s4");
    const c5 = convolved(s4, 5, 5, "c5"), f6 = convolved(c5, 1, 1, "f6");
    const penalties = Array.from({ length: 10 }, (_, label) =>
      f6.reduce((sum, state, at) => sum + (state - arrays.codes[84 * label + at]) ** 2, 0));
    return { penalties, maps: { c1, s2, c3, s4, c5, f6 } };
  }

  const shown = states => Uint8Array.from(states, state => rounded((state / 1.7159 + 1) * 127.5));

  // What `recognition.answers.digit` says of an image.
  function digit(image, box) {
    const { penalties, maps } = run(image);
    const [label, second] = [...penalties.keys()].sort((a, b) => penalties[a] - penalties[b]);
    const least = penalties[label], { j, slope, offset } = network;
    const next = Math.min(penalties[second], j);
    const others = [...penalties.filter((_, at) => at !== label), j];
    const sum = others.reduce((all, penalty) => all + Math.exp(next - penalty), 0);
    const odds = next - Math.log(sum) - least;  // logarithm
    const rejected = next - least < network.reject_below;
    return {
      label, runner_up: second, penalties, box, image, rejected,
      rubbish: rejected && j < least,
      confidence: 1 / (1 + Math.exp(-slope * odds - offset)),
      maps: Object.fromEntries(Object.entries(maps).map(([name, states]) => [name, shown(states)])),
      code: shown(arrays.codes.subarray(84 * label, 84 * (label + 1))),
    };
  }

  // ---- what is ink, and which of it is a digit: `segmentation.ink` and `parts`, of even paper

  // As Python and numpy round: a half to the even number.
  function rounded(value) {
    const up = Math.round(value);
    return up - value === 0.5 && up % 2 ? up - 1 : up;
  }

  function quantile(values, part) {
    const sorted = Float32Array.from(values).sort(), place = part * (values.length - 1);
    const [before, after] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return before + (after - before) * (place % 1);
  }

  // Grey levels 0 to 255 -> 0 (paper) to 1 (ink).
  function inked(grey) {
    let paper = quantile(grey, 0.5);
    if (grey.reduce((sum, level) => sum + (level - paper) * Math.abs(level - paper), 0) > 0) {
      [grey, paper] = [grey.map(level => 255 - level), 255 - paper];
    }
    const depth = grey.map(level => 255 * (1 - level / Math.max(paper, 32)));
    const noise = 1.48 * quantile(depth.map(Math.abs), 0.5);
    const standing = depth.filter(level => level > Math.max(16, 5 * noise));
    if (!standing.length) return depth.fill(0);
    const half = Math.max(12, 3 * noise, 0.5 * quantile(standing, 0.75));
    const faint = Math.max(12, 3 * noise, 0.5 * half), grain = Math.min(2 * noise, faint / 2);
    return depth.map(level => Math.min(1, Math.max(0, (level - grain) * 0.5 / (faint - grain))));
  }

  // The boxes [left, top, right, bottom] of what hangs together, strokes of one digit joined.
  function digits(ink, width, height) {
    const seen = new Uint8Array(ink.length), parts = [];
    for (let start = 0; start < ink.length; start++) {
      if (seen[start] || ink[start] <= 0.5) continue;
      const part = { box: [width, height, 0, 0], area: 0 }, open = [start];
      for (seen[start] = 1; open.length; part.area++) {
        const at = open.pop(), x = at % width, y = Math.floor(at / width), [left, top, right, bottom] = part.box;
        part.box = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
            const next = v * width + u;
            if (seen[next] || ink[next] <= 0.5) continue;
            seen[next] = 1;
            open.push(next);
          }
        }
      }
      if (part.area >= 6) parts.push(part);
    }
    const tall = ([, top, , bottom]) => bottom - top;
    const tallest = boxes => Math.max(0, ...boxes.map(tall));
    const inside = parts.filter(({ box: [l, t, r, b] }) => l > 0 && t > 0 && r < width && b < height);
    const kept = tallest(inside.map(part => part.box)) >= 8 ? inside : parts;
    const largest = Math.max(0, ...kept.map(part => part.area));
    const boxes = kept.filter(part => part.area >= 0.06 * largest).map(part => part.box).sort((a, b) => tall(b) - tall(a));
    const most = tallest(boxes), joined = [];
    for (const box of boxes) {
      const at = joined.findIndex(other => {
        const [narrower, over] = [Math.min(box[2] - box[0], other[2] - other[0]), Math.min(box[2], other[2]) - Math.max(box[0], other[0])];
        const whole = Math.max(box[3], other[3]) - Math.min(box[1], other[1]);
        const apart = Math.max(box[1], other[1]) - Math.min(box[3], other[3]);
        return over >= 0.5 * narrower && apart < 0.2 * tall(other)
          && (tall(box) < 0.5 * tall(other) || apart < 0 || whole <= most);
      });
      if (at < 0) joined.push(box);
      else joined[at] = joined[at].map((edge, n) => n < 2 ? Math.min(edge, box[n]) : Math.max(edge, box[n]));
    }
    return joined.filter(box => tall(box) >= Math.max(6, 0.3 * tallest(joined)));
  }

  // ---- a digit as MNIST has it: `recognition.preparation` and `data.frames`

  // How far each pixel of which `is` holds is from the nearest of which it does not.
  function away(is, width, height) {
    const above = new Float64Array(width * height), found = new Float64Array(width * height);
    for (let x = 0; x < width; x++) {  // within the column, then over the columns
      for (let y = 0; y < height; y++) above[y * width + x] = !is(y * width + x) ? 0 : y ? above[(y - 1) * width + x] + 1 : Infinity;
      for (let y = height - 2; y >= 0; y--) above[y * width + x] = Math.min(above[y * width + x], above[(y + 1) * width + x] + 1);
    }
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      let least = Infinity;
      for (let u = 0; u < width; u++) least = Math.min(least, (u - x) ** 2 + above[y * width + u] ** 2);
      found[y * width + x] = Math.sqrt(least);
    }
    return found;
  }

  // Bytes 28x28 of the ink in a box; strokes thinner than MNIST's are thickened.
  function prepared(ink, inkWidth, [left, top, right, bottom]) {
    const size = Math.max(right - left, bottom - top), margin = 1 + Math.floor(size / 8);
    const width = right - left + 2 * margin, height = bottom - top + 2 * margin;
    const crop = new Float64Array(width * height);
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) {
      crop[(y - top + margin) * width + x - left + margin] = ink[y * inkWidth + x];
    }
    const inner = away(at => crop[at] > 0.5, width, height), outer = away(at => crop[at] <= 0.5, width, height);
    const stroke = 4 * inner.reduce((sum, far) => sum + far, 0) / inner.reduce((number, far) => number + (far > 0), 0);
    const more = (2 * size / 20 - stroke) / 2;
    return framed(crop.map((level, at) => {
      if (more > 0) level = Math.max(level, Math.min(1, Math.max(0, more + 1 - outer[at])));
      return level < 0.1 ? 0 : 255 * level;
    }), width);
  }

  function framed(image, width) {
    let [left, top, right, bottom] = [width, Infinity, 0, 0];
    image.forEach((level, at) => {
      if (!level) return;
      const x = at % width, y = Math.floor(at / width);
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
    });
    const scale = 20 / Math.max(right - left, bottom - top);
    const across = resampling(right - left, Math.max(1, rounded((right - left) * scale)));
    const down = resampling(bottom - top, Math.max(1, rounded((bottom - top) * scale)));
    let [sum, row, column] = [0, 0, 0];
    const small = down.map((rows, y) => across.map((columns, x) => {
      let level = 0;
      rows.forEach((a, v) => { if (a) columns.forEach((b, u) => { level += a * b * image[(top + v) * width + left + u]; }); });
      level = Math.min(255, Math.max(0, level));
      [sum, row, column] = [sum + level, row + level * (y + 0.5), column + level * (x + 0.5)];
      return level;
    }));
    const place = (middle, length) => Math.min(28 - length, Math.max(0, rounded(14 - middle)));
    const [y0, x0] = [place(row / sum, down.length), place(column / sum, across.length)];
    const found = new Uint8Array(28 * 28);
    small.forEach((levels, y) => levels.forEach((level, x) => { found[28 * (y0 + y) + x0 + x] = rounded(level); }));
    return found;
  }

  // For each of `after` pixels the weights of the `before` old ones: Keys' cubic (1981), a = -1/2,
  // as wide as a new pixel where that is wider than an old one. So does Pillow's BICUBIC.
  function resampling(before, after) {
    const wide = Math.max(1, before / after);
    const cubic = x => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    return Array.from({ length: after }, (_, at) => {
      const middle = (at + 0.5) * before / after;
      const weights = Array.from({ length: before }, (_, from) => cubic(Math.abs(from + 0.5 - middle) / wide));
      const all = weights.reduce((sum, weight) => sum + weight, 0);
      return weights.map(weight => weight / all);
    });
  }

  // ---- the reader

  const LARGEST = 256;  // pixels of the longer side that are looked at

  async function read(canvas) {
    const part = Math.min(1, LARGEST / Math.max(canvas.width, canvas.height));
    const [width, height] = [canvas.width, canvas.height].map(side => Math.max(1, Math.round(side * part)));
    const small = Object.assign(document.createElement("canvas"), { width, height });
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";  // behind what is transparent
    context.fillRect(0, 0, width, height);
    context.drawImage(canvas, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const ink = inked(new Float32Array(width * height).map((_, at) =>
      0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2]));
    const boxes = digits(ink, width, height);
    if (boxes.length > 1) {
      return { why: "Several digits, or a picture on which one does not stand out: this page reads "
        + "one digit at a time. The page of python -m lenet_jax.serve reads them all." };
    }
    return { digits: boxes.map(([left, top, right, bottom]) =>
      digit(prepared(ink, width, [left, top, right, bottom]), [left, top, right - left, bottom - top].map(edge => edge / part))) };
  }

  return { note: [`What you draw stays in this browser: the network, ${network.name}, is in this file.`], read, run };
}

"""LeNet-5 from the paper's formulas: float64 NumPy, loops over maps and connections, no jax."""

import numpy as np

TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
""".split()  # as printed: a row for each map of S2, a column for each map of C3

TABLE = [[i for i in range(6) if TABLE_I[i][o] == "X"] for o in range(16)]


def f(a):
    return 1.7159 * np.tanh(2 / 3 * a)


def convolution(x, weights, biases, size, table=None):
    """x [inputs, h, w] -> the weighted sums [maps, h - size + 1, w - size + 1]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    sums = np.zeros((len(biases), *windows.shape[1:3]))
    for o in range(len(biases)):
        kernels = weights[o].reshape(len(x), 1, 1, size, size)
        reads = list(table[o] if table else range(len(x)))
        sums[o] = biases[o] + (kernels[reads] * windows[reads]).sum(axis=(0, 3, 4))
    return sums


def subsampling(x, coefficients, biases):
    maps, h, w = x.shape
    sums = np.zeros((maps, h // 2, w // 2))
    for m in range(maps):
        for r in range(h // 2):
            for c in range(w // 2):
                four = x[m, 2 * r, 2 * c] + x[m, 2 * r, 2 * c + 1]
                four += x[m, 2 * r + 1, 2 * c] + x[m, 2 * r + 1, 2 * c + 1]
                sums[m, r, c] = coefficients[m] * four + biases[m]
    return sums


def lenet5(params, image, codes, table):
    """The penalties of eq. 7 [classes, h, w] of one image [h, w], and all states by name."""
    p = {n: {k: np.asarray(v, np.float64) for k, v in layer.items()} for n, layer in params.items()}
    maps = {}
    x = np.asarray(image, np.float64)[None]
    x = maps["c1"] = f(convolution(x, p["c1"]["kernel"], p["c1"]["bias"], 5))
    x = maps["s2"] = f(subsampling(x, p["s2"]["coefficient"], p["s2"]["bias"]))
    x = maps["c3"] = f(convolution(x, p["c3"]["kernel"], p["c3"]["bias"], 5, table))
    x = maps["s4"] = f(subsampling(x, p["s4"]["coefficient"], p["s4"]["bias"]))
    x = maps["c5"] = f(convolution(x, p["c5"]["kernel"], p["c5"]["bias"], 5))
    x = maps["f6"] = f(convolution(x, p["f6"]["kernel"], p["f6"]["bias"], 1))
    penalties = np.zeros((len(codes), *x.shape[1:]))
    for i, code in enumerate(codes):
        for j in range(len(code)):
            penalties[i] += (x[j] - code[j]) ** 2
    return penalties, maps


class Graph:
    """A network as units and single connections, for eq. 23, 25 and 27 word by word.

    Unit n has its sum a[n] and state x[n]; a connection is (to, from, name of its weight, which
    one), and from = None is a bias.
    """

    def __init__(self, inputs, params):
        self.a, self.x = [None] * inputs.size, list(inputs.ravel().astype(np.float64))
        self.params = {k: np.asarray(v, np.float64) for k, v in params.items()}
        self.params["one"] = np.ones(1)
        self.activated = [True] * inputs.size
        self.connections = {}

    def layer(self, units, activated=True):
        """units: for each new unit its list of (from, name, index). Returns their numbers.

        A connection named "one" has the weight 1 and no parameter.
        """
        first = len(self.x)
        for inputs in units:
            n = len(self.x)
            total = 0.0
            for source, name, index in inputs:
                total += self.params[name][index] * (1.0 if source is None else self.x[source])
            self.connections[n] = inputs
            self.a.append(total)
            self.x.append(f(total) if activated else total)
            self.activated.append(activated)
        return np.arange(first, len(self.x))

    def curvature(self, top, second_derivative=2.0):
        """h of every parameter from d2E/dx2 of the units `top`."""
        d2x = np.zeros(len(self.x))
        d2x[top] = second_derivative
        h = {name: np.zeros_like(value) for name, value in self.params.items()}
        for n in reversed(range(len(self.x))):
            if n not in self.connections:
                continue
            slope = 1.7159 * 2 / 3 / np.cosh(2 / 3 * self.a[n]) ** 2 if self.activated[n] else 1
            d2a = slope**2 * d2x[n]
            for source, name, index in self.connections[n]:
                h[name][index] += d2a * (1.0 if source is None else self.x[source] ** 2)
                if source is not None:
                    d2x[source] += self.params[name][index] ** 2 * d2a
        return h

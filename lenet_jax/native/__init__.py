"""The layers' work on a CPU, in C++ through XLA's FFI, where a compiler is at hand."""

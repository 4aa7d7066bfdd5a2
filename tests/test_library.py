"""The library that the native kernels come in, and which programs use them."""

import os
import stat
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.errors import UserError
from lenet_jax.experiment import Distortion, Experiment
from lenet_jax.layers import contract
from lenet_jax.models.alexnet import AlexNet
from lenet_jax.models.lenet import LeNet5
from lenet_jax.native import library
from lenet_jax.training import replicas, scoring, step

pytestmark = pytest.mark.skipif(
    library.kind(build=True) != "native", reason=library.remark() or "LENET_JAX_KERNELS is xla"
)


def calls(traced, platform="cpu"):
    """How often each native kernel is in a program for a platform."""
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return {name: n for name in library.HANDLERS if (n := text.count(f"@{name}("))}


def predicted(model, images, **how):
    """The traced program of the scores of so many images."""
    shape = (227, 227, 3) if isinstance(model, AlexNet) else (28, 28)
    one = contract.shown(model, jnp.zeros((1, *shape)))
    params = jax.eval_shape(model.init, jax.random.key(0), one)["params"]
    given = jax.ShapeDtypeStruct((images, *shape), jnp.uint8)
    return jax.jit(partial(scoring.predict, model, **how)).trace(params, given)


def test_predictions_use_them_on_a_cpu_where_they_suit(monkeypatch):
    """Not for C5 and F6, whose windows are all there is, nor for rounded products."""
    assert calls(predicted(LeNet5(), 1)) == {"LenetConvolve": 2, "LenetSubsample": 2}
    assert calls(predicted(LeNet5(), 1), "cuda") == {}
    assert calls(predicted(LeNet5(pooling="max"), 1)) == {"LenetConvolve": 2}
    assert calls(predicted(LeNet5(), 1, precision="bfloat16")) == {}
    narrow = AlexNet(maps=(2, 2, 2, 2, 2), hidden=(2, 2))
    assert calls(predicted(narrow, 8)) == {"LenetConvolve": 5}
    assert calls(predicted(narrow, 7)) == {"LenetConvolve": 4}  # conv1 leaves pixels out
    monkeypatch.setenv("LENET_JAX_KERNELS", "xla")
    assert calls(predicted(LeNet5(), 1)) == {}


def test_an_update_uses_them_both_ways_and_for_distortions():
    """Of the first layer's inputs no gradient is asked for."""
    experiment = Experiment("x", batch_size=4, distortion=Distortion(rotation=5))
    recipe = step.recipe(experiment, 8, replicas.mesh(jax.devices()[:1]))
    state = step.initial_state(recipe, np.zeros(1, np.uint32))
    order = step.order_of_epoch(state.key, 1, 8, 4, "fixed")
    examples = jnp.zeros((8, 28, 28), jnp.uint8), jnp.zeros(8, jnp.int32)
    traced = step.run_steps.trace(recipe, state, *examples, order, 0, 1)
    both = {"LenetSubsample": 2, "LenetSubsampleBack": 2, "LenetConvolve": 2, "LenetSample": 1}
    assert calls(traced) == both | {"LenetConvolveBack": 1, "LenetConvolveBackFirst": 1}


def run(code, **changes):
    """A program of its own with other variables of the environment."""
    environment = os.environ | changes
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


KIND = """
from lenet_jax.native import library
print(library.kind(build=True), library.remark(), sep='|')
"""


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("false", "false failed"),
        ("/nowhere/c++", "/nowhere/c++: No such file"),
    ],
)
def test_without_a_compiler_the_other_kernels_run(tmp_path, compiler, reason):
    cache = {"XDG_CACHE_HOME": str(tmp_path), "CXX": compiler}
    done = run(KIND, **cache, LENET_JAX_KERNELS="auto")
    assert done.stdout.startswith("xla|no native kernels (") and reason in done.stdout
    assert "Install a C++17 compiler" in done.stdout and not done.stderr
    refused = run(KIND, **cache, LENET_JAX_KERNELS="native")
    assert "UserError: LENET_JAX_KERNELS is native, and no native kernels" in refused.stderr


def unoptimized(folder, change=""):
    """A compiler in a folder that is soon done, with a change for sed to make in the sources."""
    compiler = folder / "c++"
    compiler.write_text(
        f"""#!/bin/bash
for word; do
  case $word in *.cc) sed 's/{change or "^/"}/' $word > {folder}/${{word##*/}}
    word={folder}/${{word##*/}};; esac
  words+=($word)
done
exec c++ "${{words[@]}}" -O0
"""
    )
    compiler.chmod(0o755)
    return str(compiler)


@pytest.mark.parametrize(
    "mistake",
    [
        "A = 1.7159f/A = 1.7200f",
        "sum(products) + total/sum(products)",  # without the last few, less than a vector
        "second \\* down/second * right",
    ],
)
def test_kernels_that_compute_other_numbers_are_not_used(tmp_path, mistake):
    """A compiler that makes a mistake in the states, in a gradient, or in the samples."""
    compiler = unoptimized(tmp_path, mistake)
    done = run(KIND, XDG_CACHE_HOME=str(tmp_path), CXX=compiler, LENET_JAX_KERNELS="auto")
    assert done.stdout.startswith(
        f"xla|no native kernels (those of {compiler} compute other numbers than XLA's)"
    ), done.stderr
    assert not list((tmp_path / "lenet_jax" / "native").iterdir())


def test_kernels_can_be_made_while_a_program_is_traced(tmp_path):
    code = """
import jax
from lenet_jax.native import library
print(jax.jit(lambda: print(library.kind(build=True)) or 1)())
"""
    cache = {"XDG_CACHE_HOME": str(tmp_path), "CXX": unoptimized(tmp_path)}
    done = run(code, **cache, LENET_JAX_KERNELS="native")
    assert done.stdout == "native\n1\n", done.stderr


def test_a_compiler_that_hangs_is_stopped(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] || exec sleep 60\n")
    compiler.chmod(0o755)
    code = KIND.replace("print", "library.SECONDS = 1; print")
    done = run(code, XDG_CACHE_HOME=str(tmp_path), CXX=str(compiler), LENET_JAX_KERNELS="auto")
    assert done.stdout.startswith(f"xla|no native kernels ({compiler} did not end within 1 s)")


def test_an_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("LENET_JAX_KERNELS", "fast")
    with pytest.raises(
        UserError, match="LENET_JAX_KERNELS is 'fast', allowed are auto, native, xla"
    ):
        library.kind()
    monkeypatch.setenv("LENET_JAX_KERNELS", "xla")
    assert library.kind() == "xla" and library.remark() == ""


def test_what_is_kept_is_used_again_and_built_anew_where_it_is_broken(tmp_path):
    """Four programs: one builds, one finds it, one half of it, one a folder of everybody's."""
    cache = {"XDG_CACHE_HOME": str(tmp_path), "CXX": unoptimized(tmp_path)}
    cache["LENET_JAX_KERNELS"] = "native"
    folder = tmp_path / "lenet_jax" / "native"

    def built(remark=""):
        done = run(KIND, **cache)
        assert done.stdout == f"native|{remark}\n", done.stderr
        (kept,) = folder.glob("*.so")
        assert sorted(p.suffix for p in folder.iterdir()) == [".sha256", ".so"]
        return kept

    kept = built()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first = kept.stat().st_mtime_ns
    assert built().stat().st_mtime_ns == first
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert len(built().read_bytes()) == len(whole)
    marked = kept.stat().st_mtime_ns
    folder.chmod(0o777)
    assert built(f"{folder} cannot be used: the native kernels are compiled at each start") == kept
    assert kept.stat().st_mtime_ns == marked


def test_one_prediction_does_not_wait_for_a_compiler(tmp_path):
    code = "from lenet_jax.native import library; print(library.kind())"
    cache = {"XDG_CACHE_HOME": str(tmp_path), "CXX": unoptimized(tmp_path)}
    cache["LENET_JAX_KERNELS"] = "auto"
    assert run(code, **cache).stdout == "xla\n"
    assert run(KIND, **cache).stdout == "native|\n"
    assert run(code, **cache).stdout == "native\n"


def test_a_folder_that_others_may_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "lenet_jax" / "native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert library._folder() is None
    folder.chmod(0o700)
    assert library._folder() == folder

import json
import os
import subprocess
import sys

from conftest import ROOT


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out", out],
        cwd=ROOT,
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    for row in rows:
        low, high = row["spread"]["ours"]
        assert 0 < low <= row["ours"] <= high
        assert row["peer_name"] is not None or row["ratio"] is None
    settings = {(row["job"], *row["setting"].items()) for row in rows}
    assert {job for job, *_ in settings} == {"training", "replicas, batch 1", "a whole run"}
    assert ("replicas, batch 1", ("replicas", 2)) in settings

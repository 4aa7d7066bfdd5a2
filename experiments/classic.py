"""LeNet-5 as published."""

from lenet_jax.training.config import MAP, Experiment, Paper


def get_config() -> Experiment:
    return Experiment(
        name="classic",
        loss=MAP(j=5.0),
        paper=Paper(test_error=0.95, train_error=0.35, source="section III-B and Fig. 5"),
    )

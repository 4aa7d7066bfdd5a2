"""Systems that are no single run of `training`: boosting, and the classical methods of Fig. 9."""

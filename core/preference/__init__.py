"""Human preferences: rankings as data, evaluation of scorers and of models, training of reward models."""

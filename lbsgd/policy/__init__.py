"""The policy: the recipe, and the learning rate and samples of every iteration. Pure, and the same for every backend."""

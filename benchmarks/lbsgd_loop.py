"""lbsgd's side: its backend, driven by its own loop over its own loader."""

from lbsgd.backends import Job, load
from lbsgd.data.loader import training_batches
from lbsgd.data.synthetic import Shape, open_synthetic
from lbsgd.order import Order
from lbsgd.plan import make_plan
from lbsgd.recipe import load_recipe
from lbsgd.steps import take_steps
from lbsgd.world import World


class Loop:
    """lbsgd's replica of this rank, at a position in a run of goyal2017 on synthetic images."""

    def __init__(self, world: World, *, framework: str, batch: int, size: int, classes: int) -> None:
        overrides = ["model=resnet18", f"batch_per_worker={batch}", f"images.size={size}"]
        recipe = load_recipe("goyal2017", overrides)
        self.world = world
        self.source = open_synthetic(Shape(classes=classes, size=size)).train
        self.plan = make_plan(recipe, world_size=world.size, samples=len(self.source), classes=classes)
        self.order = Order(recipe.seed, len(self.source), self.plan.global_batch)
        self.position = 0
        self.backend = load(framework, Job(recipe=recipe, classes=classes, world=world))
        self.backend.broadcast()

    @property
    def learning_rate(self) -> float:
        return self.plan.schedule.lr(self.position)

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last.

        The loader starts empty and makes exactly these batches, so none of its work falls into the other side's time.
        """
        iterations = range(self.position, self.position + steps)
        batches = training_batches(
            self.source,
            self.plan.recipe.images,
            self.order,
            rank=self.world.rank,
            world_size=self.world.size,
            start_iteration=iterations.start,
            stop_iteration=iterations.stop,
            threads=1,
        )
        for step in take_steps(self.backend, batches, self.plan.schedule, iterations):
            loss = step.loss
        batches.close()
        self.position = iterations.stop
        return loss

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient: as many as in its velocity."""
        return [array.size for array in self.backend.export_state().velocity.values()]

"""lbsgd's side: its backend, driven by its own loop over its own loader, as in a run of goyal2017."""

from lbsgd.backends import ReplicaSpec, load
from lbsgd.data.batch import Reading, Share
from lbsgd.data.loader import training_batches
from lbsgd.data.synthetic import Shape, open_synthetic
from lbsgd.measuring.steps import take_steps
from lbsgd.policy.order import Order
from lbsgd.policy.plan import make_plan
from lbsgd.policy.recipe import load_recipe
from lbsgd.ranks.world import World


class Loop:
    """lbsgd's replica of this rank, and its position in the run."""

    def __init__(self, world: World, framework: str, *, batch: int, size: int, classes: int, precision: str) -> None:
        shape = ["model=resnet18", f"batch_per_worker={batch}", f"images.size={size}"]
        self.recipe = load_recipe("goyal2017", [*shape, f"precision={precision}"])
        self.world = world
        self.source = open_synthetic(Shape(classes=classes, size=size)).train
        samples = len(self.source)
        self.schedule = make_plan(self.recipe, world_size=world.size, samples=samples).schedule
        self.order = Order(self.recipe.seed, samples, self.schedule.global_batch)
        self.position = 0
        self.backend = load(framework, ReplicaSpec(recipe=self.recipe, classes=classes, world=world))
        self.backend.broadcast()

    def take(self, steps: int) -> float:
        """Take that many steps; the loss of the last.

        The loader starts empty and makes exactly these batches, so that none of its work falls into the other side's time.
        """
        iterations = range(self.position, self.position + steps)
        batches = training_batches(
            self.source,
            self.recipe.images,
            self.order,
            Share(self.world.rank, self.world.size),
            iterations,
            Reading(threads=1),
        )
        *_, last = take_steps(self.backend, batches, self.schedule.lr, iterations)
        batches.close()
        self.position = iterations.stop
        return last.loss

    def gradient_sizes(self) -> list[int]:
        """Numbers in each gradient: as many as in its velocity."""
        return [array.size for array in self.backend.export_state().velocity.values()]

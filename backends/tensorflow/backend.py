"""The TensorFlow replica: ResourceApplyMomentum is eq. 9, the learning rate outside the velocity, as torch's SGD."""

from collections.abc import Callable

import horovod
import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf

from lbsgd.backends.arrays import require_fit
from lbsgd.backends.batch_norm import virtual_momentum
from lbsgd.backends.contract import Backend, ReplicaSpec
from lbsgd.backends.phases import PhaseClock
from lbsgd.backends.tensorflow.allreduce import average_gradients, average_variables, broadcast_variables
from lbsgd.backends.tensorflow.device import choose_device, has_fast_bf16
from lbsgd.backends.tensorflow.lars import lars_update
from lbsgd.backends.tensorflow.library import LibraryNetwork
from lbsgd.backends.tensorflow.loss_scale import LossScale
from lbsgd.backends.tensorflow.network import ResidualNetwork
from lbsgd.backends.tensorflow.profiler import TensorFlowProfiler
from lbsgd.errors import UsageError
from lbsgd.models import describe, library_model
from lbsgd.models.state import Arrays, State

PRECISIONS = {"fp32": tf.float32, "bf16": tf.bfloat16, "fp16": tf.float16}


class TensorFlowBackend(Backend):
    """One replica in TensorFlow. Images are NHWC whatever `spec.channels_last` says."""

    framework = "tensorflow"
    precisions = tuple(PRECISIONS)

    def __init__(self, spec: ReplicaSpec) -> None:
        super().__init__(spec)
        if spec.world.size > 1:  # alone, Horovod's thread would only take time
            hvd.init(spec.world.for_other_libraries())
        spec = self.spec
        self.device = choose_device(spec.world)
        if spec.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.asynchronous = self.device != "cpu"
        self.dtype = PRECISIONS[spec.recipe.precision]
        self.network = build_network(spec)
        self.together = 1
        if isinstance(self.network, ResidualNetwork):
            self.together = self.network.groups = spec.workers_together("cpu" if self.device == "cpu" else "gpu")
        self.passes = spec.accumulate // self.together
        self.velocity = {n: tf.Variable(tf.zeros_like(v), trainable=False) for n, v in self.network.trained.items()}
        self.gradient_sums: dict[str, tf.Variable] = {}
        if self.passes > 1:
            self.gradient_sums = {n: tf.Variable(tf.zeros_like(v)) for n, v in self.network.trained.items()}
        self.scale = LossScale() if self.dtype == tf.float16 else None
        self._accumulate = tf.function(self._accumulate_step)
        self._update = tf.function(self._update_step)
        self._evaluate = tf.function(self._evaluate_step)

    @staticmethod
    def fastest_precision(spec: ReplicaSpec) -> str:
        return "bf16" if has_fast_bf16(spec.world) and not library_model(spec.recipe.model) else "fp32"

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, learning_rate: float, clock: PhaseClock | None = None
    ) -> tf.Tensor:
        images_together = self.together * self.spec.recipe.batch_per_worker
        losses = []
        if clock:
            clock.staged()  # the copy to a GPU is part of the graph
            self._clock = clock
        for index in range(self.passes):
            share = slice(index * images_together, (index + 1) * images_together)
            momentum = tf.constant(virtual_momentum(index, self.passes))
            batch = tf.convert_to_tensor(images[share]), tf.convert_to_tensor(labels[share]), momentum
            if index < self.passes - 1:
                losses.append(self._accumulate(*batch))
            else:
                losses.append(self._update(*batch, tf.constant(learning_rate, tf.float32), clock is not None))
        return losses[0] if self.passes == 1 else tf.add_n(losses)

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, momentum: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The share that the virtual workers of this pass have in the rank's mean loss, and in its (scaled) gradient."""
        with tf.GradientTape() as tape:
            logits = self.network.logits(self._pixels(images), training=True, momentum=momentum)
            loss = tf.reduce_mean(self._cross_entropy(logits, labels)) / self.passes
            objective = self.scale.apply(loss) if self.scale else loss
        gradients = tape.gradient(objective, list(self.network.trained.values()))
        return loss, dict(zip(self.network.trained, gradients, strict=True))

    def _accumulate_step(self, images: tf.Tensor, labels: tf.Tensor, momentum: tf.Tensor) -> tf.Tensor:
        loss, gradients = self._gradients(images, labels, momentum)
        for name, gradient in gradients.items():
            self.gradient_sums[name].assign_add(gradient)
        return loss

    def _update_step(
        self, images: tf.Tensor, labels: tf.Tensor, momentum: tf.Tensor, learning_rate: tf.Tensor, measured: bool
    ) -> tf.Tensor:
        loss, gradients = self._gradients(images, labels, momentum)
        for name, total in self.gradient_sums.items():
            gradients[name] += total
        computed = []
        if measured:
            reached = self._reach(lambda: self._clock.computed(), loss, gradients)
            computed = [self._count(lambda squared: self._clock.meet(squared), reached, gradients)]
        with tf.control_dependencies(computed):
            if self.spec.world.size > 1:
                gradients = average_gradients(gradients)
        averaged = []
        if measured:
            reached = self._reach(lambda: self._clock.averaged(), loss, gradients)
            averaged = [self._count(lambda squared: self._clock.counted(squared), reached, gradients)]
        with tf.control_dependencies(averaged):
            self._update_weights(gradients, learning_rate)
        return loss

    def _update_weights(self, gradients: dict[str, tf.Tensor], learning_rate: tf.Tensor) -> None:
        """By the mean gradients; those of the virtual workers are forgotten."""
        if self.scale:
            gradients, finite = self.scale.remove(gradients)
            tf.cond(finite, lambda: self._apply(gradients, learning_rate), lambda: tf.constant(False))
        else:
            self._apply(gradients, learning_rate)
        for total in self.gradient_sums.values():
            total.assign(tf.zeros_like(total))

    def _reach(self, phase: Callable[[], None], loss: tf.Tensor, gradients: dict[str, tf.Tensor]) -> tf.Operation:
        """What calls `phase` when all gradients are there."""

        def tell(*_: np.ndarray) -> np.float32:
            phase()
            return np.float32(0)

        with tf.control_dependencies(list(gradients.values())):
            # A GPU's kernels have then only been started. Fetching a number that comes after them waits for them.
            fetched = [tf.identity(loss)] if self.asynchronous else []
            return tf.numpy_function(tell, fetched, tf.float32, stateful=True).op

    def _count(self, tell: Callable[[float], None], reached: tf.Operation, gradients: dict[str, tf.Tensor]) -> tf.Operation:
        """What hands `tell` the squared norm of the gradients, without their loss scale, once `reached` has been."""

        def hand_over(squared: np.ndarray) -> np.float32:
            tell(float(squared))
            return np.float32(0)

        with tf.control_dependencies([reached]):
            squared = tf.add_n([tf.reduce_sum(tf.square(tf.identity(gradient))) for gradient in gradients.values()])
            if self.scale:
                squared /= self.scale.scale**2
            return tf.numpy_function(hand_over, [squared], tf.float32, stateful=True).op

    def _apply(self, gradients: dict[str, tf.Tensor], learning_rate: tf.Tensor) -> tf.Tensor:
        settings = self.spec.recipe.optimizer
        if settings.clip_norm:
            factor = tf.minimum(1.0, settings.clip_norm / tf.linalg.global_norm(list(gradients.values())))
            gradients = {name: factor * gradient for name, gradient in gradients.items()}
        for name, variable in self.network.trained.items():
            gradient = gradients[name]
            if settings.kind == "lars":
                adapted = name in self.network.adapted
                lars_update(variable, self.velocity[name], gradient, learning_rate, settings, adapted=adapted)
                continue
            if name in self.network.decayed:
                gradient += settings.weight_decay * variable
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=self.velocity[name].handle,
                lr=learning_rate,
                grad=gradient,
                momentum=settings.momentum,
                use_nesterov=settings.nesterov,
            )
        return tf.constant(True)

    def _pixels(self, images: tf.Tensor) -> tf.Tensor:
        """(x / 255 - mean) / std, with a factor for every value of a row: a last axis of 3 is not vectorised on a CPU."""
        settings = self.spec.recipe.images
        row, deviation = (settings.size, 1), np.array(settings.std)
        scale = tf.constant(np.tile(1 / (255 * deviation), row), tf.float32)
        shift = tf.constant(np.tile(np.array(settings.mean) / deviation, row), tf.float32)
        return tf.cast(tf.cast(images, tf.float32) * scale - shift, self.dtype)

    def _cross_entropy(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        smoothing = self.spec.recipe.label_smoothing
        if not smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        target = tf.one_hot(
            labels,
            self.spec.classes,
            1 - smoothing + smoothing / self.spec.classes,
            smoothing / self.spec.classes,
        )
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)

    def loss_value(self, loss: tf.Tensor) -> float:
        return float(loss)

    def _evaluate_step(self, images: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self.network.logits(self._pixels(images), training=False, momentum=0.0)[:valid]
        wrong = tf.math.count_nonzero(tf.argmax(logits, 1) != labels[:valid])
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[:valid], logits)
        return wrong, tf.reduce_sum(entropy)

    def evaluate(self, images: np.ndarray, labels: np.ndarray, valid: int) -> tuple[int, float]:
        wrong, entropy = self._evaluate(tf.convert_to_tensor(images), tf.convert_to_tensor(labels), tf.constant(valid))
        return int(wrong), float(entropy)

    @property
    def gradient_bytes(self) -> int:
        return sum(v.shape.num_elements() * v.dtype.size for v in self.network.trained.values())

    def average_batch_norm(self) -> None:
        statistics = self.network.statistics()
        if self.spec.world.size > 1 and statistics:
            average_variables(statistics)

    def export_state(self) -> State:
        model = self.network.to_canonical(self.network.trained | self.network.buffers)
        return State(model, self.network.to_canonical(self.velocity), self.scale.export() if self.scale else {})

    def import_state(self, state: State) -> None:
        self._assign("model", self.network.trained | self.network.buffers, state.model)
        self._assign("velocity", self.velocity, state.velocity)
        if self.scale and state.loss_scale:
            self.scale.restore(state.loss_scale)

    def _assign(self, what: str, variables: dict[str, tf.Variable], arrays: Arrays) -> None:
        shapes = {name: array.shape for name, array in self.network.to_canonical(variables).items()}
        require_fit(what, arrays, shapes)
        for name, array in self.network.from_canonical(arrays).items():
            variables[name].assign(array)

    def broadcast(self) -> None:
        if self.spec.world.size > 1:
            state = [*self.network.trained.values(), *self.network.buffers.values(), *self.velocity.values()]
            broadcast_variables(state)
            if self.scale:
                self.scale.restore(self.spec.world.broadcast(self.scale.export()))

    def profiler(self) -> TensorFlowProfiler:
        return TensorFlowProfiler()

    def environment(self) -> dict[str, object]:
        return {
            "tensorflow": tf.__version__,
            "horovod": horovod.__version__,
            "horovod_build": {
                "mpi": hvd.mpi_built(),
                "gloo": hvd.gloo_built(),
                "nccl": bool(hvd.nccl_built()),
            },
            "cuda": tf.sysconfig.get_build_info().get("cuda_version"),
            "device": self.device,
            "threads": self.spec.threads,
            "precision": self.spec.recipe.precision,
            "compiled": True,
            "deterministic": self.spec.deterministic,
        }


def create(spec: ReplicaSpec) -> TensorFlowBackend:
    """The TensorFlow replica for `spec`."""
    return TensorFlowBackend(spec)


def build_network(spec: ReplicaSpec) -> ResidualNetwork | LibraryNetwork:
    """The recipe's network, holding its initial weights."""
    recipe = spec.recipe
    library = library_model(recipe.model)
    if not library:
        return ResidualNetwork(describe(recipe.model, spec.classes), recipe.seed, recipe.last_gamma)
    if spec.accumulate > 1 or recipe.precision != "fp32":
        raise UsageError("keras: models run in fp32 and without --accumulate; use one of lbsgd's own models for those")
    return LibraryNetwork(library[1], spec.classes, recipe.images.size, recipe.seed)

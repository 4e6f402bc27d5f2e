"""Ray Data by itself: `read_images`, `map_batches` with a class, and `write_images`.

Where all are to write PNGs of one level, a function that saves stands for `write_images`.
"""

from typing import Any, ClassVar

import numpy as np
from overpaint.jobs.bench.busy_system import BATCH, Job, Model, System
from PIL import Image


class RayData(System):
    """A stream of Ray Data with a pool of actors."""

    on_ray: ClassVar[bool] = True

    def run(self, job: Job) -> None:
        """Runs the stream to its end."""
        import ray
        from ray.data import ActorPoolStrategy

        edited = ray.data.read_images(str(job.source), mode="RGB", include_paths=True).map_batches(
            _Model,
            fn_constructor_args=(job,),
            batch_size=BATCH,
            compute=ActorPoolStrategy(size=job.actors),
            num_cpus=1,
        )
        job.out.mkdir(parents=True, exist_ok=True)
        if not job.same_png:
            edited.write_images(str(job.out), column="image")
            return

        def save(row: dict[str, Any]) -> dict[str, Any]:
            path = job.target(row["path"])
            Image.fromarray(row["image"]).save(path, **job.png_options)
            return {"path": str(path)}

        edited.map(save).materialize()


class _Model(Model):
    """The model as Ray Data calls it."""

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        return {**batch, "image": np.stack(self.edit(list(batch["image"])))}

"""One of several processes that train a small network together; test_distributed.py runs and compares them.

    python tests/support/together.py '{"port": ..., "processes": 2, "process": 0, "folder": ..., "steps": 4}'

More entries: "rules", of config.train.sharding; "order", of the devices in the mesh; "first", the checkpoint to go on
from; "save", the step to save at; "die" and "suspend", [process, step]; "fail", the process that raises an error of its
own. What it saw goes to seen.<process>.json.
"""

import json
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SMALL = {
    "data.name": "digits",
    "data.flip": True,
    "diffusion.T": 50,
    "diffusion.beta_T": 0.3,
    "net.channels": 8,
    "net.multipliers": (1,),
    "net.blocks": 1,
    "net.attention": (),
    "optim.lr": 1e-3,
    "optim.warmup_steps": 2,
    "train.batch_size": 16,
}
LIMIT = 240


def config(rules="replicated"):
    from diffusion.config import default_config

    made = default_config()
    made.update_from_flattened_dict({**SMALL, "train.sharding": rules})
    return made


def steps(rules, folder, first, last, order=None, save=0):
    """Yields [batch, loss, counts of t by quartile] of steps first + 1 to last; from a checkpoint unless first is 0."""
    import jax
    import numpy as np

    from diffusion.data.digits import digits
    from diffusion.distributed import sharding
    from diffusion.experiment import build
    from diffusion.training import loop
    from diffusion.workdir.checkpoint import Checkpoints

    mesh = sharding.make_mesh([jax.devices()[i] for i in order] if order else None)
    ours = build.experiment(config(rules), (8, 8, 1), 10, mesh)
    feed, state = ours.feed(digits(train=True)), ours.create_state()
    whole = jax.jit(lambda batch: batch[0], out_shardings=sharding.replicated(ours.mesh))
    checkpoints = Checkpoints(folder / "checkpoints")
    if first:
        state = checkpoints.restore(first, state)
    stream, program = feed.batches(first), None
    for step in range(first + 1, last + 1):
        batch = feed.stack([next(stream)])
        seen = np.asarray(whole(batch)).tolist()
        program = program or loop.compile_steps(ours.task(), ours.update(), feed, state, batch)
        state, metrics = program(state, feed.data, batch)
        if step == save:
            checkpoints.save(step, state)
            assert checkpoints.saved(step)
        counts = [float(metrics[f"mse_t_quartile_{q}"][1]) for q in (1, 2, 3, 4)]
        yield [seen, float(metrics["loss"][0]), counts]
    checkpoints.close()


def main(spec):
    import jax

    from diffusion.distributed.initialize import Processes, initialized

    folder, process = Path(spec["folder"]), spec["process"]
    rules, first = spec.get("rules", "replicated"), spec.get("first", 0)
    processes = Processes(f"localhost:{spec['port']}", spec["processes"], process, LIMIT)
    with initialized(processes, config(rules)):
        assert jax.process_index() == process
        if spec.get("fail") == process:
            raise ValueError("the data of this host are gone")
        seen = []
        for row in steps(rules, folder, first, spec["steps"], spec.get("order"), spec.get("save", 0)):
            seen.append(row)
            if len(seen) == spec["steps"] - first or spec.get("die") == [process, first + len(seen)]:
                (folder / f"seen.{process}.json").write_text(json.dumps(seen))
            if spec.get("die") == [process, first + len(seen)]:
                os.kill(os.getpid(), signal.SIGKILL)
            if spec.get("suspend") == [process, first + len(seen)]:
                os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    from diffusion.runtime import command_line

    given = json.loads(sys.argv[1])
    command_line.run(lambda: main(given), sys.argv[:1])

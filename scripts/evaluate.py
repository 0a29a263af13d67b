"""Evaluates a run: the likelihood of its data and scores of its samples, each with its protocol.

    python scripts/evaluate.py --workdir=runs/digits                                   # metrics that fit its data
    python scripts/evaluate.py --workdir=runs/cifar10 --metrics=nll --split=train      # bits/dim, rate-distortion table
    python scripts/evaluate.py --workdir=runs/cifar10 --metrics=nll,flow_nll           # also likelihood by the flow
    python scripts/evaluate.py --workdir=runs/cifar10 --metrics=fid,inception_score    # of 50,000 samples, drawn here
    python scripts/evaluate.py --workdir=runs/cifar10 --metrics=fid --samples=mine.npz --n=10000
    python scripts/evaluate.py --workdir=runs/digits_conditional --metrics=fd_classifier --guidance=1

Metrics: nll, flow_nll; with Inception's features fid, fd_768, fd_1280, inception_score, kid, precision_recall; without
them neighbours and, for small labelled grey images, fd_classifier and classes. Results are printed and written to the
run's eval folder. An interrupted evaluation resumes. Samples are held in memory: 50,000 images of 32x32 take
154 MB, of 256x256 10 GB.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, sampling_flags, workdir_and_data_flags

RUN = workdir_and_data_flags.define_run("folder of the run")
METRICS = flags.DEFINE_string(
    "metrics",
    None,
    "metrics separated by commas; by default nll and, for small labelled grey images, scores of samples",
)
SPLIT = flags.DEFINE_enum(
    "split", None, ["train", "test"], "images that nll is measured on (by default test), or samples are compared with"
)
N = flags.DEFINE_integer(
    "n",
    None,
    "images: the first n of the split for nll (by default all), the first n samples for scores (by default 50000 in "
    "Inception's features, else as many as are held out, at most 1000)",
    lower_bound=1,
)
SAMPLES = command_line.define_path("samples", "score these images: an .npz file with arr_0, or a folder of image files")
REFERENCE_N = flags.DEFINE_integer("reference_n", None, "real images to compare with; by default all", lower_bound=2)
INCEPTION = command_line.define_path(
    "inception",
    "file with Inception's weights; by default that in the cache. With unpublished weights metrics have other names, "
    "such as fd_inception-1a2b3c4d",
)
SEED = command_line.define_seed("seed of the samples, of the noise in nll, and of the subsets of kid")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
CHAIN = sampling_flags.define_sampler()
GUIDANCE = sampling_flags.define_guidance()
DATA = workdir_and_data_flags.define_data_flags()
BATCH = flags.DEFINE_integer("batch_size", None, "images at a time, by default the config's", lower_bound=1)


def main() -> None:
    folder = RUN()

    from diffusion.workdir.run_config import read_run

    run = read_run(folder)
    before_jax.configure()

    from functools import partial

    from diffusion.commands import evaluate
    from diffusion.evaluation import measurement_protocol
    from diffusion.evaluation.measurement_protocol import Chain
    from diffusion.runtime.progress_bar import counting

    request = evaluate.Request(
        metrics=tuple(METRICS.value.split(",")) if METRICS.value is not None else (),
        split=SPLIT.value,
        n=N.value,
        samples=SAMPLES.value,
        reference_n=REFERENCE_N.value,
        inception=INCEPTION.value,
        chain=Chain(**CHAIN(), seed=SEED.value),
        guidance=GUIDANCE(),
        step=STEP.value,
        raw=RAW.value,
        batch_size=BATCH.value,
        data=DATA(),
    )
    plan = evaluate.prepare(folder, run, request)
    measured = []
    for metric in evaluate.run(plan, partial(counting, unit="image", report=command_line.report)):
        print("\n".join(metric.lines), flush=True)
        measured.append(metric)
    print("\n".join(measurement_protocol.lines({metric.result.name: metric.result.protocol for metric in measured})))
    print("\n".join(["written", *(f"  {metric.path}" for metric in measured)]))


if __name__ == "__main__":
    command_line.run(main)

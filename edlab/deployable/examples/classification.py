"""The best classes of one input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edlab.agent.preprocess import top_classes
from edlab.deployable.examples.images import INPUT, read, tensor
from edlab.deployable.examples.outputs import label, values
from edlab.deployable.loaders.onnxruntime import Network

_TOP = 5


def main() -> None:
    """Print the best classes, best first: number in the model's output, name, and the output's value."""
    if len(sys.argv) != 2:
        sys.exit("usage: python %s %s" % (sys.argv[0], INPUT))
    folder = Path(__file__).parent
    manifest = json.loads((folder / "edlab.json").read_text())
    network = Network([str(folder / file["name"]) for file in manifest["files"]], manifest["runtime"]["options"])
    try:
        batch, _ = read(Path(sys.argv[1]), manifest)
    except (OSError, ValueError) as error:
        sys.exit("cannot read %s: %s" % (sys.argv[1], error))
    scores = values(network.run(tensor(batch, manifest))[:1], manifest)[0].reshape(1, -1)
    for index in top_classes(scores, _TOP)[0]:
        if index >= 0:  # not a NaN
            print("%d\t%s\t%.6g" % (index, label(index, manifest), scores[0, index]))

"""The best classes of each input."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edlab.agent.preprocess import top_classes
from edlab.deployable.examples.images import INPUT, read, tensor
from edlab.deployable.examples.outputs import label, values
from edlab.deployable.loaders.onnxruntime import Network

_TOP = 5


def main() -> None:
    """Print the best classes of each input: number in the model's output, name, and the output's value."""
    parser = argparse.ArgumentParser(description="Print the best classes: number, name and score, best first.")
    parser.add_argument("inputs", nargs="+", type=Path, metavar=INPUT)
    given = parser.parse_args()
    folder = Path(__file__).parent
    manifest = json.loads((folder / "edlab.json").read_text())
    network = Network([str(folder / file["name"]) for file in manifest["files"]], manifest["runtime"]["options"])
    for path in given.inputs:
        try:
            batch, _ = read(path, manifest)
        except (OSError, ValueError) as error:
            sys.exit("cannot read %s: %s" % (path, error))
        if len(given.inputs) > 1:
            print("%s:" % path)
        scores = values(network.run(tensor(batch, manifest))[:1], manifest)[0].reshape(1, -1)
        for index in top_classes(scores, _TOP)[0]:
            if index >= 0:  # not a NaN
                print("%d\t%s\t%.6g" % (index, label(index, manifest), scores[0, index]))

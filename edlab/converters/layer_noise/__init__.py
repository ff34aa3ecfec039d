"""Compares the values inside a quantized file with those of its float32 file: one file per format.

Each has a function `compare(floating, quantized, images, layout, options)` that runs in a separate process: paths of
both files; images as `CalibrationData.describe` returns them, in this layout; the options of the step that quantized.
It returns `{"layers": [fields of SourceLayer], "noise": {value: noise power / signal power}, "ends": [values]}`, the
arguments of `edlab.metrics.layer_noise`.
"""

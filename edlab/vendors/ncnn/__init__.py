"""Tencent's ncnn, on processors."""

ENTRY_POINTS = {
    "edlab.runtimes": {"ncnn": "edlab.vendors.ncnn.runtime"},
    "edlab.converters": {"ncnn": "edlab.vendors.ncnn.converter:NcnnConverter"},
}

"""Properties: claims about any batch, tried on random batches from Hypothesis. One module for each subject."""

from regionloss_suite.properties import (
    agreement,
    assignment,
    classes,
    derivatives,
    domain,
    geometry,
    images,
    indicators,
    inputs,
    lists,
    prior,
    targets,
    weights,
)
from regionloss_suite.properties.property import Property
from regionloss_suite.properties.registry import PROPERTIES
from regionloss_suite.properties.runner import PropertyResult, run_property

__all__ = [
    "PROPERTIES",
    "Property",
    "PropertyResult",
    "agreement",
    "assignment",
    "classes",
    "derivatives",
    "domain",
    "geometry",
    "images",
    "indicators",
    "inputs",
    "lists",
    "prior",
    "run_property",
    "targets",
    "weights",
]

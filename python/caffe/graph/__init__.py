"""From a NetParameter to a graph of nodes: state filter, splits, building, fusion, weights."""

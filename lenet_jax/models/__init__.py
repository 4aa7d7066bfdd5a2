"""Networks: layers, codes and the LeNets. Imports no other room."""

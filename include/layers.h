/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layers at which memory is accounted. They nest (a block lies in a mapping that is partly
 * resident) and are never added up. One row: constant suffix, name in every output.
 * The order is fixed: a layer's number stands in the low bits of every stack id.
 */
#ifndef TIDEMARK_LAYERS_H
#define TIDEMARK_LAYERS_H

#define for_each_layer(X) \
	X(PAGE, "page") \
	X(MAP, "map") \
	X(HEAP, "heap") \
	X(PYTHON, "python")

enum layer {
#define X(id, name) LAYER_##id,
	for_each_layer(X)
#undef X
		LAYER_NR
};

#endif

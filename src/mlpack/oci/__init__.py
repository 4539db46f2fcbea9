"""Container images without a daemon: read, build, check, store and push them.

An image is a value; every change makes a new one, and its digest follows from its bytes. Bottom first:

- `media`: media types and strict reading of untrusted JSON
- `blobs`: bytes on disk under their own digest
- `compression`: gzip whose bytes depend on nothing but the content
- `image`: the value, what changes it, and `validate`, which derives everything again
- `paths`: what files an image has, and where its Python is
- `layer`: a directory becomes a layer (`layer_from_tree`, `layer_from_rootfs`)
- `reference`: names of images, and choosing one platform from many
- `layout`: an image as a directory or an archive
- `auth`, `transport`, `remote`: an image in a registry
- `base`: a base image, wherever it is

Promises: the same files give the same digest on every machine; what was read from elsewhere was verified against its digest;
nothing half-written is left behind. Will not run anything inside an image, build more than one platform into one manifest,
or know what a model is.
"""

"""Container images without a daemon: read, build, verify, store and push them.

An image is a value. Every change makes a new image, and an image's digest follows from its bytes. The modules, lowest first:

- `media`: media types and strict reading of untrusted JSON
- `blobs`: bytes on disk under their own digest
- `compression`: gzip whose bytes depend on nothing but the content
- `image`: the image, the functions that change it, and `validate`, which computes every digest again
- `layers`: tar archives (`tar`, `scan`), the files of an image (`paths`), and a directory as a layer (`layer`)
- `reference`: names of images
- `selection`: the choice of one image from several
- `layout`: an image as a directory or an archive
- `distribution`: an image in a registry (`auth`, `keychain`, `transport`, `remote`)
- `base`: a base image, wherever it is stored

Promises:
- The same files give the same digest on every machine.
- Everything that is read from elsewhere is verified against its digest.
- Nothing half-written stays behind.

Will not: run anything inside an image, build several platforms into one manifest, or know what a model is.
"""

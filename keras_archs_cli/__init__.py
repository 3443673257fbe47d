"""The command line: joins `keras_archs` and `converters`, and imports neither before it must."""

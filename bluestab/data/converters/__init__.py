"""Original corpora -> the files that tasks read, one module per corpus.

Each module named in a task's `fetch.convert` has one public function,
`convert(files: Mapping[str, Path]) -> dict[str, bytes]`: from the name of a downloaded file (as in
`fetch.files[].file`) to where it lies, to the content of every file the task reads, by its name in
the task's folder. Nothing is downloaded, unpacked or written; what cannot be understood is a
DataError that names file and line. The other modules here are what several corpora share.
"""

"""Annotators' files, whatever their format -> rows, sentences or documents. They know no task.

    delimited   CSV, TSV            conll      words and tags     brat      text and .ann
    objects     JSON, JSONL         schemes    tags -> IOB2       pubtator  title and abstract
    columnar    Parquet, datasets   spans      offsets -> words   bioc      passages of documents
    recognise   which of these it is

Every oddity is an error that names file, line and reason, or a repair that is said in `notes`.
"""

"""How good an encoder is.

Read in this order: metrics (retrieval, classes), bootstrap (intervals), phrasing (captions), evaluate (a data
set judged), index_quality (an index judged).
"""

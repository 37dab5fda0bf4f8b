"""placeholder while the skeleton is tried"""
Row = dict
def report(rows, versions, *, markdown):
    from collections import Counter
    return str(Counter((r["family"], r["engine"], r["ok"]) for r in rows))

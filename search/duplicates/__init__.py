"""Which files are one picture, which one stays, and what becomes of the others (docs/duplicates.md).

Reading order: `likeness` (what may be one picture), `candidates` (pairs worth a look), `closer` (what is),
`keeping` (which one stays), `finding` (`find_duplicates`), `grouping` (look-alikes among hits), `trash`,
`removal` (`remove_duplicates`).
"""

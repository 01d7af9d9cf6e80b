"""The report of runs: one HTML file that holds all that it shows.

`source` is what a run's folder holds, `gather` makes one value of everything that is shown, from
the modules that each answer for a panel, and `page` puts it into the template in page/, whose
scripts draw it.
"""

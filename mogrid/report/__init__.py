"""Results for people: tables, figures, charts, and the HTML page that shows them."""

from mogrid.report.html import Chart, Figure, Note, Report, write_report
from mogrid.report.table import Table, cell, mark

__all__ = ["Chart", "Figure", "Note", "Report", "Table", "cell", "mark", "write_report"]

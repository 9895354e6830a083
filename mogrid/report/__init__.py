"""Results for people: tables, figures, charts, and the HTML page that shows them."""

from mogrid.report.html import *  # noqa: F403
from mogrid.report.table import *  # noqa: F403

"""The report of runs as one page of HTML that needs no network: words, charts and the table."""

from edlab.reports.report.charts import Chart, Power, charts
from edlab.reports.report.page import Content, page
from edlab.reports.report.published import Published, read_published
from edlab.reports.report.summary import compared

__all__ = ["Chart", "Content", "Power", "Published", "charts", "compared", "page", "read_published"]

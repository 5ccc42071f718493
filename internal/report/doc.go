// Package report shows what a measurement found: tables for a terminal, and one HTML page with plots that needs nothing but
// itself.
//
// A [Page] is sections of parts: a [Table], a [Chart] of lines, [Differences] with their intervals, or [Text]. Parts that
// make sense on a terminal have WriteText as well, so that a table is described once.
//
//	page := report.Page{Title: "…", Sections: []report.Section{{Title: "Latency", Parts: []report.Part{table, cdf}}}}
//	err := page.WriteHTML(f)
//
// # The page
//
// Plots are SVG that is made here, readable without a script and in print; a small script adds reading values with the pointer
// or the arrow keys. Each plot has its values as a table beneath it. The page follows the reader's light or dark setting, loads
// nothing (its content security policy forbids it) and writes every name as text.
//
// # Caveats
//
// NaN is "not known" everywhere: a dash in tables, a gap in lines, null in JSON ([Number]). Lines of more than a few hundred
// points should be thinned out by the caller.
package report

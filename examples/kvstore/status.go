package main

import (
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

//go:embed status.html
var statusText string

var statusPage = template.Must(template.New("status").Parse(statusText))

// statusRow is a level as the page shows it.
type statusRow struct {
	Name           string
	Sized          bool
	Pages          int64
	Used, Capacity bytesize
	Percent        float64
}

// serveStatus shows how full the levels are, and who is connected.
func (d *daemon) serveStatus(w http.ResponseWriter, _ *http.Request) {
	view := struct {
		Uptime      time.Duration
		Connections int
		Members     []string
		Rows        []statusRow
	}{Uptime: time.Since(d.started).Round(time.Second), Connections: d.connections()}
	if d.group != nil {
		view.Members = d.group.Members()
	}
	for _, l := range d.levels {
		row := statusRow{Name: l.name}
		if sized, ok := l.store.(store.Sized); ok {
			use := sized.Usage()
			row.Sized, row.Pages, row.Used, row.Capacity = true, use.Pages, bytesize(use.UsedBytes), bytesize(use.CapacityBytes)
			row.Percent = 100 * float64(use.UsedBytes) / float64(max(use.CapacityBytes, 1))
		}
		view.Rows = append(view.Rows, row)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = statusPage.Execute(w, view) // the client may have left
}

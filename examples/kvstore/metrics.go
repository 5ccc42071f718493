package main

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferloom/inferloom/kvcache/store"
)

// metrics are what /metrics tells. It is the Redis protocol's Observer.
type metrics struct {
	registry *prometheus.Registry
	commands *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(levels []level) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kvstore_commands_total", Help: "Commands of the Redis protocol, by outcome: ok, miss, refused, error.",
		}, []string{"command", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kvstore_value_bytes_total", Help: "Bytes of values that came in and went out by the Redis protocol.",
		}, []string{"direction"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kvstore_command_seconds", Help: "Time to answer a command of the Redis protocol.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 4, 9),
		}, []string{"command"}),
	}
	m.registry.MustRegister(m.commands, m.bytes, m.seconds, usages(levels))
	return m
}

// Command implements resp.Observer.
func (m *metrics) Command(name string, in, out int, took time.Duration, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, store.ErrNotFound):
		outcome = "miss"
	case store.Refused(err):
		outcome = "refused"
	case err != nil:
		outcome = "error"
	}
	m.commands.WithLabelValues(name, outcome).Inc()
	m.bytes.WithLabelValues("in").Add(float64(in))
	m.bytes.WithLabelValues("out").Add(float64(out))
	m.seconds.WithLabelValues(name).Observe(took.Seconds())
}

// level is one of the tiers, as far as it is looked at.
type level struct {
	name  string
	store store.Store
}

// usages tells how full levels are, those that know.
type usages []level

var (
	pagesDesc    = prometheus.NewDesc("kvstore_pages", "Pages in a level.", []string{"level"}, nil)
	usedDesc     = prometheus.NewDesc("kvstore_used_bytes", "Bytes of a level's capacity that are used.", []string{"level"}, nil)
	capacityDesc = prometheus.NewDesc("kvstore_capacity_bytes", "Capacity of a level.", []string{"level"}, nil)
)

func (usages) Describe(to chan<- *prometheus.Desc) {
	to <- pagesDesc
	to <- usedDesc
	to <- capacityDesc
}

func (u usages) Collect(to chan<- prometheus.Metric) {
	for _, l := range u {
		if sized, ok := l.store.(store.Sized); ok {
			use := sized.Usage()
			to <- prometheus.MustNewConstMetric(pagesDesc, prometheus.GaugeValue, float64(use.Pages), l.name)
			to <- prometheus.MustNewConstMetric(usedDesc, prometheus.GaugeValue, float64(use.UsedBytes), l.name)
			to <- prometheus.MustNewConstMetric(capacityDesc, prometheus.GaugeValue, float64(use.CapacityBytes), l.name)
		}
	}
}

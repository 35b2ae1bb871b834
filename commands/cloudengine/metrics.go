package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"cloudengine/projections/mysql"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// meters are the figures of this server for Prometheus, asked for at each scrape.
type meters struct{ s *server }

func figure(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("cloudengine_"+name, help, nil, nil)
}

var (
	meterActive     = figure("active", "1 if this server decides, else 0.")
	meterTerm       = figure("log_term", "Term of the log.")
	meterHead       = figure("log_head", "Number of the last decision in the log.")
	meterQueue      = figure("dispatch_queue", "Commands that wait for a decision.")
	meterApplied    = figure("read_models_applied", "Number of the last decision in the read models.")
	meterLag        = figure("read_models_lag_decisions", "Decisions in the log that the read models do not have yet.")
	meterLagSeconds = figure("read_models_lag_seconds", "Age of the first decision that the read models do not have yet; 0 if they have all.")
	meterParked     = figure("read_models_parked_objects", "Objects with an event that could not be applied.")
	meterBuilding   = figure("read_models_building", "1 while read models are being built, else 0.")
	meterDatabase   = figure("database_up", "1 if the database answers, else 0.")
	meterFeed       = figure("feed_published", "Number of the last decision in FEED.")
)

// Describe is part of prometheus.Collector.
func (m meters) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{meterActive, meterTerm, meterHead, meterQueue, meterApplied, meterLag, meterLagSeconds, meterParked, meterBuilding, meterDatabase, meterFeed} {
		to <- d
	}
}

// Collect is part of prometheus.Collector. What cannot be asked now is left out: no figure is better than a wrong one.
func (m meters) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	set := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	st := m.s.plane.Dispatch.Status()
	set(meterActive, number(st.Active))
	set(meterQueue, float64(st.Queue))
	set(meterFeed, float64(m.s.deriver.Published()))
	job := m.s.upkeep.present()
	set(meterBuilding, number(job != nil && !job.Done))
	if seq, err := m.s.plane.Journal.Last(ctx); err == nil {
		if at, err := m.s.plane.Journal.At(ctx, seq); err == nil {
			set(meterTerm, float64(at.Term))
		}
	}
	at, err := mysql.ReadCheckpoint(ctx, m.s.database.DB)
	set(meterDatabase, number(err == nil))
	if err != nil {
		at.Number = m.s.projector.Applied() // what it had when it was last heard of
	}
	set(meterApplied, float64(at.Number))
	if l, err := m.s.upkeep.lag(ctx, at.Number); err == nil {
		set(meterHead, float64(l.head))
		set(meterLag, float64(l.decisions))
		set(meterLagSeconds, l.seconds)
	}
	if n, err := mysql.CountParked(ctx, m.s.database.DB); err == nil {
		set(meterParked, float64(n))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metrics answers Prometheus, but only from this machine: what machines boot from is on the same port.
func (s *server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(meters{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return fromHere(promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}))
}

// fromHere lets in only who asks from the same machine.
func fromHere(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		ip := net.ParseIP(host)
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if err != nil || ip == nil || !ip.IsLoopback() && (local == nil || !local.IP.Equal(ip)) {
			http.Error(w, "metrics are told on this machine only", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

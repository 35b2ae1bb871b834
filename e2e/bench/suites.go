package main

import (
	"context"

	"cloudengine/commands/dispatch/benchlog"
	"cloudengine/commands/dispatch/benchreplay"
	"cloudengine/projections/moment/benchmoment"
	"cloudengine/projections/mysql/benchread"
	"cloudengine/workers/benchguests"
	"cloudengine/workers/benchplan"
)

// suites lists all that can be measured, in the order in which it is: the rack comes last, since it keeps the computer busy.
func suites() []suite {
	return []suite{
		{ids: benchlog.IDs(), run: measureLog},
		{ids: benchread.IDs(), run: measureReadModels},
		{ids: benchmoment.IDs(), run: measureMoments},
		{ids: benchreplay.IDs(), run: measureReplay},
		{ids: benchplan.IDs(), run: measurePlans},
		{ids: benchguests.IDs(), run: measureGuests},
		{ids: []string{"P6-call", "P6-call-p50", "P6-call-16", "P6-call-16-p50"}, run: measureCalls},
		{ids: []string{"P10-size"}, run: measureImage},
		{ids: []string{"P10-boot"}, run: measureBoot},
		{ids: []string{"P6-cpu-start"}, run: measureStart},
		{ids: []string{"P6-cpu-run", "P9-switch", "P9-proxy", "P9-node"}, run: measureChain},
	}
}

// measureLog measures P1 and P2.
func measureLog(ctx context.Context, b *bench, add func(Result)) error {
	var ids []string
	for _, id := range benchlog.IDs() {
		if b.wants(id) {
			ids = append(ids, id)
		}
	}
	b.say("P1 and P2: %d lines, about half a minute each", len(ids))
	all, err := benchlog.Run(ctx, ids)
	for _, r := range all {
		add(compared(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note}, r.Raw, r.Ratio))
	}
	return err
}

// measureReadModels measures P4 and P5.
func measureReadModels(ctx context.Context, b *bench, add func(Result)) error {
	b.say("P4 and P5: about a minute each")
	all, err := benchread.Run(ctx, b.wants)
	for _, r := range all {
		add(compared(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note}, r.Raw, r.Ratio))
	}
	return err
}

// measurePlans measures P13.
func measurePlans(ctx context.Context, b *bench, add func(Result)) error {
	b.say("P13: some seconds")
	all, err := benchplan.Run(ctx, b.wants)
	for _, r := range all {
		add(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note})
	}
	return err
}

// measureGuests measures P14.
func measureGuests(ctx context.Context, b *bench, add func(Result)) error {
	b.say("P14: some seconds")
	all, err := benchguests.Run(ctx, b.wants)
	for _, r := range all {
		add(compared(Result{ID: r.ID, Name: r.Name, Ours: r.Ours, Unit: r.Unit, Runs: r.Runs, Note: r.Note}, r.Raw, r.Ratio))
	}
	return err
}

// compared adds the raw side, if there is one.
func compared(r Result, raw, ratio float64) Result {
	if raw != 0 {
		r.Raw, r.Ratio = &raw, &ratio
	}
	return r
}

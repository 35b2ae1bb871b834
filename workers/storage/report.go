package storage

import (
	"maps"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Report says what disks there are and who is given what, as it was seen. It leaves out exports whose steps are under way. failed says what
// went wrong when an export's steps were last done. It is pure.
func Report(docs []desired.Document, seen Observed, busy map[events.Ref]bool, failed map[events.DiskID]string) events.StorageReport {
	w := decode(docs)
	_, problems := wanted(w, seen)
	r := events.StorageReport{Disks: reportDisks(w, seen)}
	ids := map[events.DiskID]bool{}
	for id := range w.exports {
		ids[id] = true
	}
	for _, s := range seen.Exports.Backstores {
		ids[events.DiskID(s.Name)] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if busy[events.Ref{Kind: desired.KindExport, ID: string(id)}] {
			continue
		}
		x, told := reportExport(w, seen, id)
		switch {
		case problems[id] != "":
			x.State, x.Message = events.ExportFailed, problems[id]
		case failed[id] != "":
			x.State, x.Message = events.ExportFailed, failed[id]
		case !told && x.State == events.ExportAbsent:
			continue // nothing is there, and nobody has an opinion
		}
		r.Exports = append(r.Exports, x)
	}
	return r
}

// reportExport says what configfs has of one disk, and under which document. told: a document has an opinion. Its generation is told only if
// this document is what decides who is admitted; that nobody is admitted under it proves that its array is closed here (see lio's revoke).
func reportExport(w wishes, seen Observed, id events.DiskID) (x events.ExportReport, told bool) {
	record := seen.Records[id]
	x = events.ExportReport{Disk: id, Array: record.Array, Epoch: record.Epoch, To: []events.MachineID{}, State: events.ExportAbsent}
	e, ok := w.exports[id]
	told = ok && e.Want != ""
	if told && !seen.lower(id, e) {
		x.Array, x.Epoch, x.Generation = e.Array, e.Epoch, e.generation
	}
	for _, s := range seen.Exports.Backstores {
		if s.Name == string(id) {
			x.State = events.ExportThere
		}
	}
	for _, p := range seen.Exports.Ports {
		for _, g := range p.Grants {
			// One that is not ready may have commands under way. It is listed, unless it is on its way in.
			listed := g.Ready || !e.wants(g.Machine)
			if g.Backstore == string(id) && listed && !slices.Contains(x.To, g.Machine) {
				x.To = append(x.To, g.Machine)
			}
		}
	}
	slices.Sort(x.To)
	if e.Want == desired.Wiped && x.State == events.ExportAbsent && len(x.To) == 0 && !seen.lower(id, e) {
		x.State, x.Message = wiping(e, seen)
	}
	return x, told
}

func reportDisks(w wishes, seen Observed) []events.DiskReport {
	out := make([]events.DiskReport, 0, len(seen.Disks))
	for _, d := range seen.Disks {
		id := events.DiskIDOf(d.Serial)
		x := events.DiskReport{Serial: d.Serial, Bytes: d.Bytes, Model: d.Model, Signature: d.Signature.Type, Health: d.Health}
		if d.Signature.Array != "" && (ours(d.Signature, w.exports[id].Array) || ours(d.Signature, seen.Records[id].Array)) {
			x.Signature = ""
		}
		out = append(out, x)
	}
	return out
}

// ours says whether a disk is a member of the array that it is known to belong to. That an array is one of somebody's cloud does not make
// it ours.
func ours(s Signature, a events.ArrayID) bool {
	return s.Array != "" && strings.ReplaceAll(strings.ToLower(string(a)), "-", "") == s.Array
}

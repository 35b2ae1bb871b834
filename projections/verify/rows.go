package verify

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
)

// What to do about rows that are wrong: the log is right, and rows are made from it.
const (
	nextRebuild = "the log is right: make the rows anew with \"cloudengine projection rebuild\"; who wrote to the database should only read it"
	nextLag     = "look at the server's log for why the read models are not written; \"cloudengine projection ls\" shows how far they are"
	nextOther   = "these read models belong to another log, or this log was replaced by an older copy: find out which before anything is rebuilt"
	nextShape   = "make the tables anew with \"cloudengine projection rebuild\""
	nextStray   = "CloudEngine did not make it: move it to a database of its own, or drop it"
	nextParked  = "\"cloudengine parked ls\" says why; mend the cause or upgrade, then \"cloudengine parked retry\""
)

// maxColumns is how many columns of one row are told apart.
const maxColumns = 8

// timeText is how the database writes a time.
const timeText = "2006-01-02 15:04:05.000000"

// Text gives a value of a row as the database would write it; nil is NULL.
func Text(v any) *string {
	var s string
	switch x := v.(type) {
	case nil:
		return nil
	case string:
		s = x
	case []byte:
		s = string(x)
	case bool:
		s = "0"
		if x {
			s = "1"
		}
	case int:
		s = strconv.Itoa(x)
	case int64:
		s = strconv.FormatInt(x, 10)
	case uint64:
		s = strconv.FormatUint(x, 10)
	case time.Time:
		s = x.UTC().Format(timeText)
	default:
		s = fmt.Sprint(x)
	}
	return &s
}

// Table compares the rows of one read model. Have is called with each row of the database, then Missing once.
type Table struct {
	table *projections.Table
	at    uint64 // number of the decision up to which the rows should be
	want  map[string]any
	named int // index of the column with the name that people use; -1: none
	out   *List
	seen  int
}

// NewTable begins the comparison of one read model's table with the rows that m has.
func NewTable(m *projections.Memory, model *projections.Model, out *List) *Table {
	t := model.Table
	c := &Table{table: t, at: m.At(), want: map[string]any{}, named: slices.Index(t.Columns, model.Named), out: out}
	for _, row := range m.Rows(t) {
		c.want[t.ID(row)] = row
	}
	return c
}

// Seen counts the rows that were compared.
func (c *Table) Seen() int { return c.seen }

// find tells of a row; name is its value in the column with the name.
func (c *Table) find(check, id string, name *string, what, want, have string) {
	f := Finding{Section: Rows, Severity: Wrong, Check: check, Kind: "row", ID: c.table.Name + "/" + id, What: what, Want: want, Have: have, Next: nextRebuild}
	if name != nil && *name != id {
		f.Name = f.ID + " (" + *name + ")"
	}
	c.out.Add(f)
}

func (c *Table) name(values []*string) *string {
	if c.named < 0 {
		return nil
	}
	return values[c.named]
}

// Have compares one row of the database: its values in the order of the table's columns, nil for NULL.
func (c *Table) Have(values []*string) {
	c.seen++
	id := ""
	if values[0] != nil {
		id = *values[0]
	}
	row, ok := c.want[id]
	if !ok {
		c.find("row_extra", id, c.name(values), "the row is in table "+c.table.Name+" and the log knows nothing of it"+c.beyond(values), "no row", "a row")
		return
	}
	delete(c.want, id)
	told := 0
	for i, v := range c.table.Values(nil, row) {
		want, have := Text(v), values[i]
		if same(want, have) {
			continue
		}
		if told++; told <= maxColumns {
			c.find("row_changed", id, c.name(values), "column "+c.table.Columns[i]+" of table "+c.table.Name+" is not what the log says"+c.beyond(values), quote(want), quote(have))
		}
	}
	if told > maxColumns {
		c.find("row_changed", id, c.name(values), fmt.Sprintf("%d more columns of table %s are not what the log says", told-maxColumns, c.table.Name), "", "")
	}
}

// beyond tells of a row that names a decision which the checkpoint does not have.
func (c *Table) beyond(values []*string) string {
	for i, name := range c.table.Columns {
		if name != "changed_by" || values[i] == nil {
			continue
		}
		if n, err := strconv.ParseUint(*values[i], 10, 64); err == nil && n > c.at {
			return fmt.Sprintf("; it was changed by decision %d, and the checkpoint is %d", n, c.at)
		}
	}
	return ""
}

// Missing tells of the rows that the database does not have.
func (c *Table) Missing() {
	ids := make([]string, 0, len(c.want))
	for id := range c.want {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		values := c.table.Values(nil, c.want[id])
		var name *string
		if c.named >= 0 {
			name = Text(values[c.named])
		}
		c.find("row_missing", id, name, "the row is not in table "+c.table.Name, "a row", "no row")
	}
}

func same(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b || sameJSON(*a, *b)
}

// sameJSON: some databases store JSON in a form of their own.
func sameJSON(a, b string) bool {
	if a == "" || b == "" || a[0] != b[0] || a[0] != '{' && a[0] != '[' {
		return false
	}
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// Checkpoint is how far the database says that it is.
type Checkpoint struct {
	Number uint64
	Term   uint64
	Intent events.IntentID
}

// CompareCheckpoint compares the database's checkpoint with the decision of that number in the log; at is nil if the log ends before it.
func CompareCheckpoint(have Checkpoint, at *events.Recorded, end uint64) []Finding {
	f := Finding{Section: Rows, Severity: Critical, Kind: "checkpoint", ID: "readmodels", Next: nextOther}
	switch {
	case have.Number == 0 && have.Intent == "":
		return nil
	case at == nil:
		f.Check, f.What = "checkpoint_ahead", "the checkpoint of the read models lies beyond the end of the log"
		f.Want, f.Have = fmt.Sprintf("at most %d", end), fmt.Sprint(have.Number)
	case at.Intent != have.Intent || at.Term != have.Term:
		f.Check, f.What = "checkpoint_other", fmt.Sprintf("the checkpoint names another intent or term for decision %d than the log", have.Number)
		f.Want, f.Have = fmt.Sprintf("intent %s, term %d", at.Intent, at.Term), fmt.Sprintf("intent %s, term %d", have.Intent, have.Term)
	default:
		return nil
	}
	return []Finding{f}
}

// Lag tells of a checkpoint that does not move while decisions wait for it.
func Lag(have Checkpoint, end uint64, waited time.Duration) Finding {
	return Finding{Section: Rows, Severity: Wrong, Check: "checkpoint_behind", Kind: "checkpoint", ID: "readmodels", Next: nextLag,
		What: fmt.Sprintf("the read models did not reach the end of the log within %s", waited), Want: fmt.Sprint(end), Have: fmt.Sprint(have.Number)}
}

// ParkedRow is a row of parked_events.
type ParkedRow struct {
	Number uint64
	Index  int
	Object events.Ref
	Type   string
	First  bool // the reason why its object is parked
}

// CompareParked compares what is parked in the database with what has to be, and warns of each object that is.
func CompareParked(m *projections.Memory, have []ParkedRow, out *List) {
	type key struct {
		number uint64
		index  int
	}
	row := func(check string, p ParkedRow, what, want, have string) {
		out.Add(Finding{Section: Rows, Severity: Wrong, Check: check, Kind: "parked", ID: fmt.Sprintf("%d/%d", p.Number, p.Index),
			Name: fmt.Sprintf("%s of decision %d", p.Object, p.Number), What: what, Want: want, Have: have, Next: nextRebuild})
	}
	want := map[key]ParkedRow{}
	first := map[events.Ref]bool{}
	for _, p := range m.Parked() {
		want[key{p.Number, p.Index}] = ParkedRow{p.Number, p.Index, p.Object, p.Type, !first[p.Object]}
		first[p.Object] = true
	}
	for _, p := range have {
		k := key{p.Number, p.Index}
		w, ok := want[k]
		delete(want, k)
		switch {
		case !ok:
			row("parked_extra", p, "parked_events has it, and the event can be applied", "not parked", "parked")
		case w.Object != p.Object || w.Type != p.Type:
			row("parked_changed", p, "parked_events names another object or type than the log", w.Object.String()+" "+w.Type, p.Object.String()+" "+p.Type)
		case p.First:
			out.Add(Finding{Section: Rows, Severity: Warning, Check: "parked", Kind: string(p.Object.Kind), ID: p.Object.ID, Next: nextParked,
				What: fmt.Sprintf("its rows stand still: %s of decision %d cannot be applied", p.Type, p.Number)})
		}
	}
	for _, p := range m.Parked() {
		if w, missing := want[key{p.Number, p.Index}]; missing {
			row("parked_missing", w, "the event cannot be applied and is not in parked_events", "parked", "not parked")
		}
	}
}

// DroppedRow is an event that people gave up: the read models go on without it.
type DroppedRow struct {
	Number     uint64
	Index      int
	Object     events.Ref
	Type       string
	By, Reason string
}

// CompareDropped tells of what people gave up. m is a fold that passes over nothing: what it can apply need not have been given up.
func CompareDropped(m *projections.Memory, dropped []DroppedRow, out *List) {
	for _, d := range dropped {
		f := Finding{Section: Rows, Severity: Warning, Check: "dropped_needlessly", Kind: string(d.Object.Kind), ID: d.Object.ID,
			What: fmt.Sprintf("%s gave up %s of decision %d (%s), and it can be applied", d.By, d.Type, d.Number, d.Reason),
			Next: "the rows lack it for good; \"cloudengine parked ls\" tells more; only an empty database is filled with it again"}
		for _, p := range m.Parked() {
			if p.Number == d.Number && p.Index == d.Index {
				f.Severity, f.Check, f.Next = Note, "dropped", "nothing; this is what was decided"
				f.What = fmt.Sprintf("%s gave up %s of decision %d: %s", d.By, d.Type, d.Number, d.Reason)
			}
		}
		out.Add(f)
	}
}

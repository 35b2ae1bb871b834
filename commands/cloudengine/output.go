package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"gopkg.in/yaml.v3"
)

// row is one object as a read model gives it.
type row map[string]any

func parseRow(raw json.RawMessage) (row, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var r row
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("read row: %w", err)
	}
	return r, nil
}

// text gives a field as text; what is null or missing is not known: "?".
func (r row) text(field string) string {
	switch v := r[field].(type) {
	case nil:
		return "?"
	case string:
		return v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []any:
		words := make([]string, len(v))
		for i, w := range v {
			words[i] = fmt.Sprint(w)
		}
		return strings.Join(words, ",")
	case map[string]any:
		raw, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		return string(raw)
	default:
		return fmt.Sprint(v)
	}
}

func (r row) number(field string) uint64 {
	n, ok := r[field].(json.Number)
	if !ok {
		return 0
	}
	v, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// column is one column of a table.
type column struct {
	head string
	cell func(row) string
}

// field is a column that shows a field; where it is null the value is not known.
func field(head, name string) column {
	return column{head, func(r row) string { return r.text(name) }}
}

// optional is a column of a field that not every object has; where it is null there is none.
func optional(head, name string) column {
	return column{head, func(r row) string {
		if r[name] == nil {
			return "-"
		}
		return r.text(name)
	}}
}

// memory shows a number of MiB.
func memory(head, name string) column {
	return column{head, func(r row) string {
		if r[name] == nil {
			return "?"
		}
		return formatMiB(r.number(name))
	}}
}

// state shows the state of an object; one that nobody knows stands out.
var state = column{"STATE", func(r row) string {
	if s := r.text("state"); s != "unknown" {
		return s
	}
	return "Unknown"
}}

// heads says whether a table begins with the heads of its columns.
type heads bool

const (
	withHeads    heads = true
	withoutHeads heads = false
)

// table prints rows.
func table(w io.Writer, columns []column, rows []row, h heads) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if h {
		for i, c := range columns {
			fmt.Fprint(tw, tabs(i), c.head)
		}
		fmt.Fprintln(tw)
	}
	for _, r := range rows {
		for i, c := range columns {
			fmt.Fprint(tw, tabs(i), oneLine(c.cell(r)))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func tabs(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}

// oneLine keeps what came from elsewhere from breaking the table or the terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}

// list prints rows in the form that was asked for.
func (a *app) list(columns []column, rows []row) error {
	switch a.output {
	case "json":
		if rows == nil {
			rows = []row{}
		}
		return a.json(rows)
	case "yaml":
		return a.yaml(rows)
	case "name":
		for _, r := range rows {
			fmt.Fprintln(a.out, nameOf(r))
		}
		return nil
	}
	return table(a.out, columns, rows, withHeads)
}

// show prints one object with all its fields, in the order of fields; those that are not named there follow by name.
func (a *app) show(columns []column, r row) error {
	switch a.output {
	case "json":
		return a.json(r)
	case "yaml":
		return a.yaml(r)
	case "name":
		_, err := fmt.Fprintln(a.out, nameOf(r))
		return err
	}
	tw := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, c := range columns {
		fmt.Fprintf(tw, "%s:\t%s\n", strings.ToLower(c.head), oneLine(c.cell(r)))
	}
	return tw.Flush()
}

func nameOf(r row) string {
	if s, ok := r["name"].(string); ok && s != "" {
		return s
	}
	return r.text("id")
}

func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// yaml prints what json prints, as YAML.
func (a *app) yaml(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var plain any
	if err := yaml.Unmarshal(raw, &plain); err != nil { // JSON is YAML, and numbers stay numbers
		return err
	}
	out, err := yaml.Marshal(plain)
	if err != nil {
		return err
	}
	_, err = a.out.Write(out)
	return err
}

// talk tells the human something.
func (a *app) talk(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

func formatMiB(n uint64) string {
	if n > 0 && n%1024 == 0 {
		return strconv.FormatUint(n/1024, 10) + "GiB"
	}
	return strconv.FormatUint(n, 10) + "MiB"
}

// mebibytes is a flag for an amount of memory.
type mebibytes int

func (m *mebibytes) String() string {
	if *m == 0 {
		return ""
	}
	return formatMiB(uint64(*m))
}

// Type names the value in --help.
func (m *mebibytes) Type() string { return "SIZE" }

// Set reads 128MiB, 4GiB or 1TiB. The decider says what sizes may be.
func (m *mebibytes) Set(s string) error {
	digits := strings.TrimRight(s, "MGTiB")
	n, err := strconv.ParseInt(digits, 10, 32)
	factor, ok := map[string]int64{"MiB": 1, "GiB": 1 << 10, "TiB": 1 << 20}[s[len(digits):]]
	if err != nil || !ok {
		return fmt.Errorf("%q: want a size like 128MiB, 4GiB or 1TiB", s)
	}
	if n *= factor; n < 0 || n > 1<<31-1 {
		return fmt.Errorf("%q: out of range", s)
	}
	*m = mebibytes(n)
	return nil
}

package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"cloudengine/events"
)

// Field is one value of an event's data, by its path.
type Field struct{ Name, Text string }

// Fields gives the data of an event as paths and texts, in the order in which they are written. What is empty is not among them.
func Fields(p events.Payload) []Field {
	raw, err := json.Marshal(p)
	if err != nil {
		return []Field{{"data", "cannot be shown: " + err.Error()}}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	w := &walker{dec: dec}
	w.value("")
	return w.out
}

// walker flattens JSON that was just encoded, so that it cannot be wrong.
type walker struct {
	dec *json.Decoder
	out []Field
}

func (w *walker) value(path string) {
	t, err := w.dec.Token()
	if err != nil {
		return
	}
	switch t {
	case json.Delim('{'):
		w.object(path)
	case json.Delim('['):
		w.list(path)
	default:
		if text := scalar(t); text != "" {
			w.out = append(w.out, Field{path, text})
		}
	}
}

func scalar(t json.Token) string {
	switch v := t.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(t)
}

// object flattens an object; an epoch is one text.
func (w *walker) object(path string) {
	begin := len(w.out)
	for w.dec.More() {
		key, err := w.dec.Token()
		if err != nil {
			return
		}
		name := fmt.Sprint(key)
		if path != "" {
			name = path + "." + name
		}
		w.value(name)
	}
	_, _ = w.dec.Token() // the end
	if f := w.out[begin:]; len(f) == 2 && f[0].Name == path+".term" && f[1].Name == path+".counter" {
		w.out = append(w.out[:begin], Field{path, f[0].Text + "." + f[1].Text})
	}
}

// list flattens an array: scalars to one text, others by their index.
func (w *walker) list(path string) {
	begin, plain := len(w.out), true
	var texts []string
	for i := 0; w.dec.More(); i++ {
		at := fmt.Sprintf("%s.%d", path, i)
		n := len(w.out)
		w.value(at)
		for _, f := range w.out[n:] {
			plain = plain && f.Name == at
			texts = append(texts, f.Text)
		}
	}
	_, _ = w.dec.Token() // the end
	if plain && len(texts) > 0 {
		w.out = append(w.out[:begin], Field{path, strings.Join(texts, ",")})
	}
}

// tooLong are fields that say nothing to people, or that are shown otherwise.
var tooLong = []string{"scores", "inventory", "kernel", "ramdisk", "key", "token_sha256", "fingerprint"}

func essential(name string) bool {
	for _, p := range tooLong {
		if name == p || strings.HasPrefix(name, p+".") {
			return false
		}
	}
	return true
}

// Words gives the essential data of an event on one line. It is not cleaned: guests and machines may have written parts of it.
func Words(e events.Event) string {
	var out []string
	for _, f := range Fields(e.Data) {
		if essential(f.Name) {
			out = append(out, strings.ReplaceAll(f.Name, "_", " ")+" "+f.Text)
		}
	}
	return strings.Join(out, ", ")
}

// Verdict gives an outcome on one line.
func Verdict(o events.Outcome) string {
	text := string(o.Status)
	if o.Code != "" {
		text += " (" + o.Code + ")"
	}
	if o.Guard != "" {
		text += " by the guard " + o.Guard
	}
	if o.Message != "" {
		text += ": " + o.Message
	}
	return text
}

// Scores gives the table by which a run grant was placed, a line for each host.
func Scores(e events.Event) []string {
	d, ok := e.Data.(events.VMRunGranted)
	if !ok {
		return nil
	}
	var out []string
	for _, s := range d.Scores {
		line := fmt.Sprintf("host %s: score %d, %d MiB free", s.Name, s.Score, s.FreeMiB)
		if s.Refused != "" {
			line = fmt.Sprintf("host %s: not possible: %s", s.Name, s.Refused)
		} else if s.Host == d.Host {
			line += ", chosen"
		}
		out = append(out, line)
	}
	if d.Rest > 0 {
		out = append(out, fmt.Sprintf("and %d hosts that are not listed", d.Rest))
	}
	return out
}

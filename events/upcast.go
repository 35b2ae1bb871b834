package events

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
)

// upcasters turns the data of an older version of an event into data of the next version, by the older one's wire name. The highest
// version of an event is in decoders; every lower one must be here, so that old logs stay readable for ever. An upcaster knows only the
// data: what the old version did not say stays unsaid.
//
// To change an event so that old readers could not read it: leave its samples as they are, give the type the next version's name, write
// the upcaster from the version before, add samples of the new version, and give its name a level (see Level).
var upcasters = map[string]func(json.RawMessage) (json.RawMessage, error){}

// vocabulary is what can be read.
type vocabulary struct {
	decoders  map[string]func(json.RawMessage) (Payload, error)
	upcasters map[string]func(json.RawMessage) (json.RawMessage, error)
}

func present() vocabulary { return vocabulary{decoders, upcasters} }

func (v vocabulary) decode(name string, b json.RawMessage) (Payload, error) {
	was := name
	for f, old := v.upcasters[name]; old; f, old = v.upcasters[name] {
		next, err := nextVersion(name)
		if err == nil {
			b, err = f(b)
		}
		if err != nil {
			return nil, fmt.Errorf("read data of %s: upcast %s: %w", was, name, err)
		}
		name = next
	}
	f, ok := v.decoders[name]
	if !ok {
		return Unknown{name, append(json.RawMessage{}, b...)}, nil
	}
	p, err := f(b)
	if err != nil {
		return nil, fmt.Errorf("read data of %s: %w", was, err)
	}
	return p, nil
}

var nameForm = regexp.MustCompile(`^([a-z]+\.[a-z_]+)\.v([1-9][0-9]*)$`)

func splitName(name string) (base string, version int, err error) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return "", 0, fmt.Errorf("event name %q: want <kind>.<what happened>.v<n>", name)
	}
	version, err = strconv.Atoi(m[2])
	return m[1], version, err
}

func nextVersion(name string) (string, error) {
	base, version, err := splitName(name)
	return base + ".v" + strconv.Itoa(version+1), err
}

// Validate says what is wrong with the vocabulary of this program: a name of another form, a version that has no way to the highest one, a
// type that calls itself something else. It is asked when the program starts.
func Validate() error { return present().validate() }

func (v vocabulary) validate() error {
	highest := map[string]int{}
	for name, decode := range v.decoders {
		base, version, err := splitName(name)
		if err != nil {
			return err
		}
		if other, twice := highest[base]; twice {
			return fmt.Errorf("event %s: versions %d and %d are both decoded: the lower one needs an upcaster instead", base, other, version)
		}
		highest[base] = version
		if p, err := decode(json.RawMessage("{}")); err != nil || p.EventType() != name {
			return fmt.Errorf("event %s: its type cannot be read from {}, or calls itself something else (%v)", name, err)
		}
	}
	for name := range v.upcasters {
		base, version, err := splitName(name)
		if err != nil {
			return err
		}
		if version >= highest[base] {
			return fmt.Errorf("event %s: it is upcast, and no higher version is decoded", name)
		}
	}
	for name, level := range levels {
		if _, known := v.decoders[name]; !known || level < 2 || level > Level {
			return fmt.Errorf("event %s: it belongs to level %d: want a known event and a level from 2 to %d", name, level, Level)
		}
	}
	for base, top := range highest {
		for version := 1; version < top; version++ {
			if _, ok := v.upcasters[base+".v"+strconv.Itoa(version)]; !ok {
				return fmt.Errorf("event %s: version %d has no upcaster: stored logs hold it, and must stay readable", base, version)
			}
		}
	}
	return nil
}

// OldNames lists the wire names of the versions that are read and not written any more, sorted.
func OldNames() []string {
	names := make([]string, 0, len(upcasters))
	for n := range upcasters {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

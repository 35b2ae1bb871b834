package events

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

type lampLit struct {
	Lumen int `json:"lumen"`
}

func (lampLit) EventType() string { return "lamp.lit.v3" }

func lamps() vocabulary {
	return vocabulary{
		decoders: map[string]func(json.RawMessage) (Payload, error){"lamp.lit.v3": decode[lampLit]},
		upcasters: map[string]func(json.RawMessage) (json.RawMessage, error){
			"lamp.lit.v1": func(b json.RawMessage) (json.RawMessage, error) { // it counted candles
				var old struct{ Candles int }
				if err := json.Unmarshal(b, &old); err != nil {
					return nil, err
				}
				return json.Marshal(map[string]int{"watt": old.Candles})
			},
			"lamp.lit.v2": func(b json.RawMessage) (json.RawMessage, error) {
				var old struct{ Watt int }
				if err := json.Unmarshal(b, &old); err != nil {
					return nil, err
				}
				if old.Watt < 0 {
					return nil, errors.New("negative")
				}
				return json.Marshal(lampLit{old.Watt * 12})
			},
		},
	}
}

func TestOldVersionsAreReadAsTheHighest(t *testing.T) {
	v := lamps()
	if err := v.validate(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"lamp.lit.v1": `{"candles":5}`, "lamp.lit.v2": `{"watt":5}`, "lamp.lit.v3": `{"lumen":60}`} {
		p, err := v.decode(name, json.RawMessage(data))
		if err != nil || p != (lampLit{60}) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := v.decode("lamp.lit.v4", json.RawMessage(`{}`)); err != nil || p.EventType() != "lamp.lit.v4" {
		t.Errorf("a newer version: %v, %v", p, err)
	}
	for _, name := range []string{"lamp.lit.v1", "lamp.lit.v2"} {
		if _, err := v.decode(name, json.RawMessage(`{"watt":-1,"candles":-1}`)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s with bad data: %v", name, err)
		}
	}
}

func TestAVocabularyWithGapsIsRefused(t *testing.T) {
	up := func(b json.RawMessage) (json.RawMessage, error) { return b, nil }
	for what, change := range map[string]func(vocabulary){
		"a version without a way up":  func(v vocabulary) { delete(v.upcasters, "lamp.lit.v1") },
		"a way that leads nowhere":    func(v vocabulary) { v.upcasters["lamp.lit.v3"] = up },
		"a way of an unknown event":   func(v vocabulary) { v.upcasters["lamp.out.v1"] = up },
		"a name of another form":      func(v vocabulary) { v.decoders["lampLit"] = v.decoders["lamp.lit.v3"] },
		"a type with another name":    func(v vocabulary) { v.decoders["lamp.off.v1"] = v.decoders["lamp.lit.v3"] },
		"two versions that both read": func(v vocabulary) { v.decoders["lamp.lit.v2"] = v.decoders["lamp.lit.v3"] },
	} {
		v := lamps()
		if change(v); v.validate() == nil {
			t.Errorf("%s: not refused", what)
		}
	}
}

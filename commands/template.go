package commands

import (
	"encoding/hex"

	"cloudengine/events"
)

// Template is something that guests are made from.
type Template struct {
	ID      events.TemplateID
	Account events.AccountID
	Data    events.TemplateCreated
}

// CreateTemplate makes a template of kind kernel from files that were put before.
type CreateTemplate struct {
	Name      string           `json:"name"`
	Account   events.AccountID `json:"account,omitempty"`
	Type      string           `json:"type"`
	Kernel    events.Blob      `json:"kernel"`
	Ramdisk   events.Blob      `json:"ramdisk,omitzero"`
	Cmdline   string           `json:"cmdline,omitempty"`
	MinMemory int              `json:"min_memory_mib"`
}

func (a CreateTemplate) check() *Rejection {
	if a.Type != "kernel" {
		return invalid("field \"type\": want kernel")
	}
	if a.MinMemory < 1 || a.MinMemory > maxMemoryMiB {
		return invalid("field \"min_memory_mib\": want 1 to %d", maxMemoryMiB)
	}
	if a.Account != "" {
		if r := checkID("account", string(a.Account)); r != nil {
			return r
		}
	}
	ramdisk := (*Rejection)(nil)
	if a.Ramdisk != (events.Blob{}) {
		ramdisk = checkBlob("ramdisk", a.Ramdisk)
	}
	return first(checkName("name", a.Name), checkBlob("kernel", a.Kernel), ramdisk, checkCmdline(a.Cmdline))
}

func checkBlob(field string, b events.Blob) *Rejection {
	raw, err := hex.DecodeString(b.SHA256)
	if err != nil || len(raw) != 32 || hex.EncodeToString(raw) != b.SHA256 {
		return invalid("field \"%s.sha256\": want 64 hexadecimal digits in lower case", field)
	}
	if b.Size < 1 || b.Size > 1<<30 {
		return invalid("field \"%s.size\": want 1 to %d bytes", field, 1<<30)
	}
	return nil
}

// checkCmdline keeps out what could break the line, or out of the quotes of a domain's configuration.
func checkCmdline(s string) *Rejection {
	if len(s) > 1024 {
		return invalid("field \"cmdline\": want at most 1024 bytes")
	}
	for _, c := range s {
		if c < ' ' || c > '~' || c == '"' || c == '\'' || c == '\\' {
			return invalid("field \"cmdline\": want printable ASCII without quotes and backslashes")
		}
	}
	return nil
}

func decideCreateTemplate(d *decision, a CreateTemplate) error {
	if a.Account == "" && d.user != nil && d.user.Account != "" {
		return reject(events.CodeForbidden, "a template for every account is for operators of the platform: name your account")
	}
	if a.Account != "" {
		if _, err := d.account(a.Account); err != nil {
			return err
		}
	}
	if err := d.freeName(events.KindTemplate, a.Account, a.Name); err != nil {
		return err
	}
	d.add(events.KindTemplate, d.newID(), events.TemplateCreated(a))
	return nil
}

// DeleteTemplate ends a template; VMs made from it go on.
type DeleteTemplate struct {
	Template events.TemplateID `json:"template"`
}

func (a DeleteTemplate) check() *Rejection { return checkID("template", string(a.Template)) }

func decideDeleteTemplate(d *decision, a DeleteTemplate) error {
	t, ok := d.s.templates[a.Template]
	if !ok || !d.owns(t.Account) {
		return reject(events.CodeNotFound, "there is no template %s", a.Template)
	}
	if err := d.expect(events.KindTemplate, t.Data.Name); err != nil {
		return err
	}
	d.add(events.KindTemplate, string(t.ID), events.TemplateDeleted{})
	return nil
}

func (s *State) foldTemplate(e events.Event) {
	id := events.TemplateID(e.Aggregate.ID)
	switch data := e.Data.(type) {
	case events.TemplateCreated:
		s.templates[id] = &Template{ID: id, Account: data.Account, Data: data}
		s.names[scope(events.KindTemplate, data.Account, data.Name)] = e.Aggregate.ID
		s.own(data.Account, 1)
	case events.TemplateDeleted:
		if t, ok := s.templates[id]; ok {
			delete(s.names, scope(events.KindTemplate, t.Account, t.Data.Name))
			delete(s.templates, id)
			s.own(t.Account, -1)
		}
	}
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"cloudengine/events"
)

// importGuest makes the guest template, anew if the files are not those of the one that is there.
func (u *raising) importGuest(ctx context.Context) error {
	kernel, err := u.upload(ctx, u.c, "kernel", filepath.Join(u.flags.guest, "vmlinux"))
	if err != nil {
		return err
	}
	ramdisk, err := u.upload(ctx, u.c, "ramdisk", filepath.Join(u.flags.guest, "guest.img"))
	if err != nil {
		return err
	}
	have, err := u.existing(ctx, events.KindTemplate, demoTemplate)
	if err != nil {
		return err
	}
	if have != nil {
		if have.text("kernel_sha256") == kernel.SHA256 && have.text("ramdisk_sha256") == ramdisk.SHA256 {
			u.say("template %s is known from the log", demoTemplate)
			return nil
		}
		if _, err := u.do(ctx, "delete old template "+demoTemplate, events.KindTemplate, "delete", map[string]any{"template": have.text("id")}); err != nil {
			return err
		}
	}
	_, err = u.do(ctx, "import template "+demoTemplate, events.KindTemplate, "create", map[string]any{
		"name": demoTemplate, "type": "kernel", "kernel": kernel, "ramdisk": ramdisk, "cmdline": "console=hvc0", "min_memory_mib": 96,
	})
	return err
}

// runVM makes the account and the VM, and has it running.
func (u *raising) runVM(ctx context.Context) error {
	account, err := u.made(ctx, events.KindAccount, demoAccount, func() (events.Answer, error) {
		return u.do(ctx, "create account "+demoAccount, events.KindAccount, "create", map[string]any{"name": demoAccount})
	})
	if err != nil {
		return err
	}
	vm, err := u.made(ctx, events.KindVM, demoVM, func() (events.Answer, error) {
		template, err := u.find(ctx, u.c, events.KindTemplate, demoTemplate)
		if err != nil {
			return events.Answer{}, err
		}
		return u.do(ctx, "create VM "+demoVM, events.KindVM, "create", map[string]any{
			"account": account, "name": demoVM, "type": events.TypePV, "vcpus": 1, "memory_mib": 128, "template": template.text("id"),
		})
	})
	if err != nil {
		return err
	}
	if _, err := u.do(ctx, "start VM "+demoVM, events.KindVM, "start", map[string]any{"vm": vm}); err != nil {
		return err
	}
	return u.poll(ctx, "VM "+demoVM, func() (bool, string, error) {
		r, err := u.get(ctx, u.c, events.KindVM, vm, events.ReadRequest{})
		if err != nil {
			return false, "", err
		}
		doing := r.text("state")
		if r["message"] != nil {
			doing += " · " + r.text("message")
		}
		return doing == "running", doing, nil
	})
}

// made gives the id of an object that is there by name, or was made now.
func (u *raising) made(ctx context.Context, kind events.Kind, name string, create func() (events.Answer, error)) (string, error) {
	have, err := u.existing(ctx, kind, name)
	if err != nil {
		return "", err
	}
	if have != nil {
		u.say("%s %s is known from the log", kind, name)
		return have.text("id"), nil
	}
	answer, err := create()
	if err != nil {
		return "", err
	}
	// Later steps find it by name: wait until the read models have it.
	if _, err := u.get(ctx, u.c, kind, string(answer.ID), events.ReadRequest{WaitFor: answer.Number}); err != nil {
		return "", fmt.Errorf("read back %s %s: %w", kind, name, err)
	}
	return string(answer.ID), nil
}

const tryNext = `
Try next:
%s  bin/cloudengine vm show web1
  bin/cloudengine vm console web1
  bin/cloudengine vm create web2 --account demo --ram 128MiB --vcpus 1 --type pvh --template guest
  bin/cloudengine vm start web2 --wait
  bin/cloudengine host list
  bin/cloudengine machine power off host2 --wait        (refused while VMs run there; see --override)
  bin/cloudengine op list
  bin/cloudengine feed --all
  bin/cloudengine vm --help
`

// guestSpoke says whether the end of a console shows that the test guest has said who it is. What it says then goes on every ten seconds, and of one
// that has run for long only that is left.
func guestSpoke(console string) bool {
	return strings.Contains(console, "guest: I am ") || strings.Contains(console, "guest: tick ")
}

// present shows the VM, and the end of its console once the guest has said who it is.
func (u *raising) present(ctx context.Context) error {
	vm, err := u.find(ctx, u.c, events.KindVM, demoVM)
	if err != nil {
		return err
	}
	text := ""
	err = u.poll(ctx, "console of "+demoVM, func() (bool, string, error) {
		a, err := u.c.Console(ctx, events.VMID(vm.text("id")), 4096)
		if err != nil {
			return false, err.Error(), nil // its host may be busy; try again
		}
		text = strings.TrimSpace(printable(a.Data))
		return guestSpoke(text), "the guest boots: " + text[strings.LastIndexByte(text, '\n')+1:], nil
	})
	if err != nil {
		return err
	}
	u.say("%s runs:", demoVM)
	if err := u.show(vmFields, vm); err != nil {
		return err
	}
	lines := strings.Split(text, "\n")
	fmt.Fprintf(u.out, "\nThe end of its console:\n")
	for _, l := range lines[max(0, len(lines)-12):] {
		fmt.Fprintf(u.out, "  | %s\n", l)
	}
	_, err = fmt.Fprintf(u.out, tryNext, u.exports())
	return err
}

// exports are the lines that other commands need before them if this rack is not where they look by themselves.
func (u *raising) exports() string {
	out := ""
	if def := "nats://127.0.0.1:4222"; u.server != def {
		out += "  export CLOUDENGINE_SERVER=" + u.server + "\n"
	}
	if u.keyFile != filepath.Join("data", adminKeyFile) {
		out += "  export CLOUDENGINE_NKEY=" + u.keyFile + "\n"
	}
	return out
}

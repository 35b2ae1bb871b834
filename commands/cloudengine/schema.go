package main

import (
	"errors"
	"io/fs"
	"path"
	"sort"
	"strings"

	"cloudengine/schemas"

	"github.com/spf13/cobra"
)

// schemaCommand shows the published schemas, which this program carries.
func (a *app) schemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "schema", Short: "The JSON Schemas of intents, events and bus messages",
		Long: `The JSON Schemas (draft 2020-12) of what travels over the bus and is stored in the log: commands (the arguments of an intent), events
(their data) and envelopes (what carries them). The tables of the read models are there as SQL. They are those of this program's version
and need no server.`,
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the schemas", Args: cobra.NoArgs, Example: "  cloudengine schema list\n  cloudengine schema list -o name",
		RunE: func(*cobra.Command, []string) error {
			all, err := schemaFiles()
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, f := range all {
				rows = append(rows, row{"name": f.name, "kind": f.kind})
			}
			return a.list([]column{field("NAME", "name"), field("KIND", "kind")}, rows)
		},
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Print a schema", Args: cobra.ExactArgs(1),
		Example: "  cloudengine schema show vm.create\n  cloudengine schema show vm.run_granted.v1\n  cloudengine schema show vms",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			all, _ := schemaFiles() // completion has nowhere to say that it failed
			var out []string
			for _, f := range all {
				out = append(out, f.name)
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, words []string) error {
			all, err := schemaFiles()
			if err != nil {
				return err
			}
			for _, f := range all {
				if f.name == words[0] {
					raw, err := fs.ReadFile(f.in, f.path)
					if err == nil {
						_, err = a.out.Write(raw)
					}
					return err
				}
			}
			return usagef("there is no schema %q: \"cloudengine schema list\" lists them", words[0])
		},
	}
	cmd.AddCommand(list, show)
	return cmd
}

// schemaFile is one schema that the program carries.
type schemaFile struct {
	name, kind, path string
	in               fs.FS
}

// schemaFiles lists them by kind and name.
func schemaFiles() ([]schemaFile, error) {
	var out []schemaFile
	walk := func(in fs.FS, root string) error {
		return fs.WalkDir(in, root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			base := path.Base(p)
			f := schemaFile{in: in, path: p, name: strings.TrimSuffix(base, path.Ext(base))}
			switch f.kind = strings.TrimSuffix(path.Base(path.Dir(p)), "s"); f.kind {
			case "mysql":
				f.kind = "table"
				_, f.name, _ = strings.Cut(f.name, "_") // after the number that orders them
			}
			out = append(out, f)
			return nil
		})
	}
	err := errors.Join(walk(schemas.JSON, "json"), walk(schemas.MySQL, "mysql"))
	sort.Slice(out, func(i, j int) bool {
		if out[i].kind != out[j].kind {
			return out[i].kind < out[j].kind
		}
		return out[i].name < out[j].name
	})
	return out, err
}

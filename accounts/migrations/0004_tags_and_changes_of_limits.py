import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_canaries")]

    operations = [
        migrations.CreateModel(
            name="Tag",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=40, unique=True)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.AddField(
            model_name="account",
            name="tags",
            field=models.ManyToManyField(blank=True, related_name="accounts", to="accounts.tag"),
        ),
        migrations.AddField(
            model_name="account",
            name="verification_asked_at",
            field=models.DateTimeField(
                blank=True, help_text="When an operator asked for a verification that is still to come.", null=True
            ),
        ),
        migrations.RemoveConstraint(model_name="limitoverride", name="limit_has_one_owner"),
        migrations.AddConstraint(
            model_name="limitoverride",
            constraint=models.UniqueConstraint(
                condition=models.Q(("account__isnull", True), ("group__isnull", True)),
                fields=("name",),
                name="one_limit_of_the_desk",
            ),
        ),
        migrations.AddConstraint(
            model_name="limitoverride",
            constraint=models.CheckConstraint(
                condition=models.Q(("group__isnull", True), ("account__isnull", True), _connector="OR"),
                name="limit_has_at_most_one_owner",
            ),
        ),
        migrations.CreateModel(
            name="LimitChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[("desk", "desk"), ("group", "group"), ("account", "account")], max_length=7
                    ),
                ),
                ("owner_name", models.CharField(blank=True, default="", max_length=80)),
                ("name", models.CharField(max_length=60)),
                (
                    "before",
                    models.CharField(blank=True, default="", help_text="Empty: it was not set here.", max_length=40),
                ),
                (
                    "after",
                    models.CharField(
                        blank=True, default="", help_text="Empty: it is no longer set here.", max_length=40
                    ),
                ),
                ("changed_at", models.DateTimeField()),
                ("changed_by", models.CharField(max_length=150)),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="limit_changes",
                        to="accounts.account",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="limit_changes",
                        to="accounts.accountgroup",
                    ),
                ),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.CreateModel(
            name="DeskLimit",
            fields=[],
            options={"proxy": True, "indexes": [], "constraints": []},
            bases=("accounts.limitoverride",),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_tags_and_changes_of_limits")]

    operations = [
        migrations.AddField(
            model_name="account",
            name="peak_at",
            field=models.DateTimeField(
                blank=True, help_text="Until when transfers have moved the peak.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="account",
            name="peak_equity",
            field=models.DecimalField(
                blank=True,
                decimal_places=8,
                help_text="The highest value ever read, moved by transfers: drawdown is measured from it.",
                max_digits=30,
                null=True,
            ),
        ),
    ]
